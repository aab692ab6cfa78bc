"""FeatureNormMonitor: how large and how sparse features are, and how much of each weight is signal."""

from collections.abc import Collection, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.data.batch import read_images
from lightning_ssl_theory.distributed import all_sum
from lightning_ssl_theory.metrics import ActivationSparsity, FeatureNorms
from lightning_ssl_theory.metrics.feature_norms import dictionary_coverage, feature_norms
from lightning_ssl_theory.metrics.sum_metric import sum_together
from lightning_ssl_theory.operators import find_module
from lightning_ssl_theory.sparse_coding import check_dictionary
from lightning_ssl_theory.tracing import Output
from lightning_ssl_theory.tracing.filter_images import filter_images
from lightning_ssl_theory.tracing.frozen_call import weight_of
from lightning_ssl_theory.tracing.inputs import rows_of
from lightning_ssl_theory.tracing.layer_features import Pool

from .diagnostic import Diagnostic
from .feature_metrics import FeatureMetrics, let_go
from .pictures import Picture, filter_grid
from .tapped_layers import OUTPUT, TappedLayers

_FILTERS_A_ROW, _MAX_ROWS = 8, 8
_DICTIONARY_KEYS = ("sparse_norm", "dense_norm", "sparse_share", "leading_atom_share", "singleton_share")


class FeatureNormMonitor(Diagnostic):
    r"""Norms and sparsity of features, and the sparse and dense parts of weights where a dictionary is known.

    Logs, for each layer, `feature_norms/<layer>/`:

    - `mean_norm`: mean over samples of ||f(x)||;
    - `firing_rate`: mean over neurons of the share of samples with a nonzero activation; `dead_share`: neurons that
      never fire; `hoyer`: mean, over the neurons that fire, of the Hoyer sparsity across the look's samples,
      0 (even) to 1 (one sample);
    - `weight_norm`: mean over neurons of ||w||, for layers with a weight;
    - with a dictionary M, over the rows w of the weight: `sparse_norm` ||M M^T w||^2, `dense_norm`
      ||(I - M M^T) w||^2, `sparse_share`, `leading_atom_share`, `singleton_share` (means), `active_share` of neurons
      that are not small, `active_singleton_share` of these, and `covered_share` of the atoms.

    Args:
        layers: Dotted paths; "output" is the network's output.
        dictionary: M, (d1, d), orthonormal columns, d1 the fan-in of a neuron of every named layer with a weight.
        output: What to call instead of the module, or the key or index of what its `embed`, else `forward` puts out.
        pool: Makes (N, D) of what a layer puts out where its axis of features does not show.
        **kwargs: See `Diagnostic`.

    References: Z. Wen, Y. Li, "Toward Understanding the Feature Learning Process of Self-supervised Contrastive
    Learning", 2021, Definitions of the sparse and dense parts.
    """

    section = "feature_norms"

    def __init__(
        self,
        layers: Sequence[str],
        *,
        dictionary: Tensor | None = None,
        output: Output = None,
        pool: Pool = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if dictionary is not None:
            check_dictionary(dictionary)
        self._layers, self._dictionary = TappedLayers(layers, output=output, pool=pool), dictionary
        self._sparsity = FeatureMetrics(self._layers.names, ActivationSparsity)
        self._norms: dict[str, FeatureNorms] = {}
        self._filters: dict[str, Tensor] = {}

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"layers": self._layers.names} | super().identity()

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise InputError if a layer is unknown or the dictionary does not fit a weight."""
        self._layers.check(pl_module)
        weights = self._weights(pl_module)
        if self._dictionary is not None and not weights:
            raise InputError(
                "Expected a layer with a weight matrix for `dictionary`, found none among "
                f"{', '.join(map(repr, self._layers.names))}; name the layer whose weights it describes."
            )
        for weight in weights.values():
            feature_norms(weight, self._dictionary)

    def layers_of(self, pl_module: LightningModule) -> Collection[str]:
        """The layers whose keys are logged."""
        return self._layers.names

    def open(self, pl_module: LightningModule) -> None:
        """Forget the last look."""
        self._layers.open(pl_module)
        self._sparsity.reset()
        self._norms = {name: FeatureNorms().to(pl_module.device) for name in self._layers.names}

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Add the images of a batch."""
        features = self._layers.features(pl_module, rows_of(read_images(batch), rows))
        self.left_out |= self._layers.left_out
        self._sparsity.update({name: (found,) for name, found in features.items()})
        for name, found in features.items():
            self._norms[name].update(found)

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """Norms and sparsity of every layer over all ranks."""
        values: dict[str, float | Tensor] = {}
        self._filters = _first_filters(self._kernels(pl_module))
        sum_together(self._norms.values(), all_sum)
        for name, sparsity in self._sparsity.compute(pl_module.device).items():
            values[f"{name}/mean_norm"] = self._norms[name].compute().mean_norm
            for key in ("firing_rate", "hoyer", "dead_share"):
                if getattr(sparsity, key).isfinite():  # no neuron fires, no Hoyer sparsity
                    values[f"{name}/{key}"] = getattr(sparsity, key)
        for name, weight in self._weights(pl_module).items():
            norms = feature_norms(weight, self._dictionary)
            values[f"{name}/weight_norm"] = norms.mean_norm
            if self._dictionary is not None:
                values |= {f"{name}/{key}": getattr(norms, key) for key in _DICTIONARY_KEYS}
                coverage = dictionary_coverage(weight, self._dictionary)
                values[f"{name}/covered_share"] = coverage.covered_share
                values[f"{name}/active_share"] = coverage.num_active / len(weight)
                values[f"{name}/active_singleton_share"] = coverage.singleton_share
        return values

    def close(self) -> None:
        """Let go of the sums."""
        self._layers.close()
        self._sparsity.reset()
        let_go(self._norms.values())
        self._norms, self._filters = {}, {}

    def pictures(self) -> dict[str, Picture]:
        """The first filters of layers that look at pixels."""
        return {
            f"{name}/filters": filter_grid(filters.split(_FILTERS_A_ROW))
            for name, filters in self._filters.items()
        }

    def _weights(self, pl_module: LightningModule) -> dict[str, Tensor]:
        kernels = self._kernels(pl_module)
        return {name: weight.flatten(1) for name, weight in kernels.items() if weight.ndim > 1}

    def _kernels(self, pl_module: LightningModule) -> dict[str, Tensor]:
        layers = {name: find_module(pl_module, name) for name in self._layers.names if name != OUTPUT}
        weights = {name: weight_of(pl_module, layer) for name, layer in layers.items()}
        return {name: weight for name, weight in weights.items() if weight is not None}


def _first_filters(kernels: dict[str, Tensor]) -> dict[str, Tensor]:
    # those that can be drawn, whole rows of them
    images = {
        name: filter_images(weight[: _FILTERS_A_ROW * _MAX_ROWS].detach())
        for name, weight in kernels.items()
        if weight.ndim in (2, 4)
    }
    return {name: found.cpu() for name, found in images.items() if found is not None}
