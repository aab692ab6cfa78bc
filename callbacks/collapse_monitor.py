"""CollapseMonitor: how many directions the representation still uses."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory.data.batch import read_images
from lightning_ssl_theory.distributed import all_sum
from lightning_ssl_theory.metrics import EffectiveRank
from lightning_ssl_theory.tracing import Output
from lightning_ssl_theory.tracing.inputs import rows_of
from lightning_ssl_theory.tracing.layer_features import Pool

from .diagnostic import Diagnostic
from .feature_metrics import FeatureMetrics
from .tapped_layers import OUTPUT, TappedLayers


class CollapseMonitor(Diagnostic):
    """Effective rank, RankMe and standard deviations of what named layers put out.

    Logs, for each layer, `collapse/<layer>/`:

    - `effective_rank`: of the centred covariance; 1 is collapsed, the width D is flat;
    - `rankme`: of the uncentred features;
    - `min_std`, `mean_std`: over the dimensions, in units of the feature;
    - `dimension_alignment`: mean absolute correlation between dimensions; 1 is collapsed;
    - `num_features`: D, the layer's dimensions; `num_samples`: of the look. A rank is at most as large as either, and
      reads low where it is near `num_samples`.

    A look at N samples of width D takes O(N D^2 + min(N, D)^3) time. It keeps the N D numbers themselves while they are
    fewer than D^2, so `num_samples` below D bounds its memory, and D^2 sums from then on, for each layer in float64.

    Args:
        layers: Dotted paths; "output" is the network's output.
        output: What to call instead of the module, or the key or index of what its `embed`, else `forward` puts out.
        pool: Makes (N, D) of what a layer puts out where its axis of features does not show.
        **kwargs: See `Diagnostic`.
    """

    section = "collapse"
    best: ClassVar[Mapping[str, str]] = {"effective_rank": "min", "rankme": "min", "min_std": "min"}

    def __init__(
        self, layers: Sequence[str] = (OUTPUT,), *, output: Output = None, pool: Pool = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._layers = TappedLayers(layers, output=output, pool=pool)
        self._metrics = FeatureMetrics(self._layers.names, EffectiveRank)
        self._num_looked_at = 0

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"layers": self._layers.names} | super().identity()

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise InputError if a layer is unknown."""
        self._layers.check(pl_module)

    def layers_of(self, pl_module: LightningModule) -> Collection[str]:
        """The layers whose keys are logged."""
        return self._layers.names

    def open(self, pl_module: LightningModule) -> None:
        """Forget the last look."""
        self._layers.open(pl_module)
        self._metrics.reset()
        self._num_looked_at = 0

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Add the images of a batch."""
        features = self._layers.features(pl_module, rows_of(read_images(batch), rows))
        self.left_out |= self._layers.left_out
        self._num_looked_at += len(rows)
        self._metrics.update({name: (found,) for name, found in features.items()})

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """Ranks of every layer over all ranks."""
        num_samples = float(all_sum(torch.tensor(self._num_looked_at)))
        values: dict[str, float | Tensor] = {}
        for name, found in self._metrics.compute(pl_module.device).items():
            for key in ("effective_rank", "rankme", "min_std", "mean_std", "dimension_alignment"):
                values[f"{name}/{key}"] = getattr(found, key)
            values |= {f"{name}/num_features": float(len(found.std)), f"{name}/num_samples": num_samples}
        return values

    def close(self) -> None:
        """Let go of the features."""
        self._layers.close()
        self._metrics.reset()
