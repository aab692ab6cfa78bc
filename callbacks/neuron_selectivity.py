"""NeuronSelectivity: which neurons tell the classes apart."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory.data.batch import read_images
from lightning_ssl_theory.metrics import Selectivity
from lightning_ssl_theory.metrics.selectivity import check_alpha

from .class_count import class_count
from .diagnostic import Diagnostic
from .feature_metrics import FeatureMetrics
from .labels import read_known_labels
from .tapped_layers import TappedLayers


class NeuronSelectivity(Diagnostic):
    r"""Class selectivity of every neuron of named layers, against a null under which labels mean nothing.

    .. math:: v_{kj} = \tfrac12 \big(E[f_j | y = k] - E[f_j | y \ne k]\big)

    A neuron is selective when some |v_kj| is larger than label permutations explain at level 0.05, corrected for
    the number of neurons and classes. Logs, for each layer, `selectivity/<layer>/`:

    - `selective_share`: share of selective neurons, in [0, 1];
    - `mean`: mean over neurons of max_k |v_kj|, in units of the feature; `max`: the largest;
    - `max_z`: the largest |v| in standard deviations of its null.

    Args:
        layers: Dotted paths; channels are averaged over positions. "output" is the network's output.
        num_classes: C; the datamodule's `num_classes` by default.
        alpha: Level of the test, for a whole layer.
        **kwargs: See `Diagnostic`.

    References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
    Networks", 2020, Section 5 (selectivity of a node for a latent; here for the classes).
    """

    section = "selectivity"

    def __init__(
        self, layers: Sequence[str], *, num_classes: int | None = None, alpha: float = 0.05, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_alpha(alpha)
        self._layers, self._num_classes, self._alpha = TappedLayers(layers), num_classes, alpha
        self._metrics = FeatureMetrics(self._layers.names, self._metric)

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"layers": self._layers.names} | super().identity()

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ValueError if a layer or the number of classes is unknown."""
        self._layers.check(pl_module)
        self._num_classes = self._num_classes or class_count(trainer, "NeuronSelectivity")
        self._metric(num_features=1)  # checks the number of classes

    def open(self, pl_module: LightningModule) -> None:
        """Forget the last look."""
        self._layers.open(pl_module)
        self._metrics.reset()

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Add the labelled images of a batch."""
        labels = read_known_labels(batch)[rows]
        features = self._layers.features(pl_module, read_images(batch)[rows])
        is_known = labels >= 0
        self._metrics.update({name: (found[is_known], labels[is_known]) for name, found in features.items()})

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """Selectivity of every layer over all ranks."""
        self._layers.close()
        return {
            f"{name}/{key}": getattr(found, key)
            for name, found in self._metrics.compute(pl_module.device).items()
            for key in ("selective_share", "mean", "max", "max_z")
        }

    def _metric(self, num_features: int) -> Selectivity:
        assert self._num_classes is not None
        return Selectivity(num_features, self._num_classes, alpha=self._alpha)
