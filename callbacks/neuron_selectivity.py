"""NeuronSelectivity: which neurons tell the classes apart, and how well they know the latents behind the data."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory.checks import check_integer
from lightning_ssl_theory.data.batch import read_images, read_known_labels, read_latents
from lightning_ssl_theory.metrics import LatentSelectivity, Selectivity
from lightning_ssl_theory.metrics.latent_selectivity import LatentSelectivityValues, check_both_values
from lightning_ssl_theory.metrics.selectivity import SelectivityValues, check_alpha
from lightning_ssl_theory.tracing import Output
from lightning_ssl_theory.tracing.inputs import rows_of
from lightning_ssl_theory.tracing.layer_features import Pool

from .class_count import check_any_label, class_count
from .diagnostic import Diagnostic
from .feature_metrics import FeatureMetrics
from .pictures import MAX_ROWS, Picture, Table
from .tapped_layers import TappedLayers


class NeuronSelectivity(Diagnostic):
    r"""Class selectivity of every neuron of named layers, against a null under which labels mean nothing.

    .. math:: v_{kj} = \tfrac12 \big(E[f_j | y = k] - E[f_j | y \ne k]\big)

    A neuron is selective when some |v_kj| is larger than label permutations explain at level 0.05, corrected for
    the number of neurons and classes. Logs, for each layer, `selectivity/<layer>/`:

    - `selective_share`: share of selective neurons, in [0, 1];
    - `mean`: mean over neurons of max_k |v_kj|, in units of the feature; `max`: the largest;
    - `max_z`: the largest |v| in standard deviations of its null.

    With `num_latents`, for binary latents z_k that the batch brings along, (views, labels, latents), also

    - `latent_correlation`: mean over latents of max_j |corr(f_j, z_k)|, in [0, 1]; `latent_correlation_min`: of the
      latent that the layer knows least;

    and `latents` holds every s_kj = (E[f_j | z_k = 1] - E[f_j | z_k = 0]) / 2 and correlation of the last look.
    Where the network is wired like a tree of latents, `LatentTreeMonitor` compares each with its own group.

    Args:
        layers: Dotted paths; channels are averaged over positions. "output" is the network's output.
        num_classes: C; the datamodule's `num_classes` by default.
        num_latents: K, number of binary latents of a sample; `None` leaves them alone. A look takes O(N K D) time
            and memory for a batch of N samples and a layer of D neurons.
        alpha: Level of the test, for a whole layer.
        output: What to call instead of the module, or the key or index of what its `embed`, else `forward` puts out.
        pool: Makes (N, D) of what a layer puts out where its axis of features does not show.
        **kwargs: See `Diagnostic`.

    Attributes:
        latents: For each layer the `LatentSelectivityValues` of K latents and D neurons.

    References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
    Networks", 2020, Section 5 (selectivity of a node for a latent).
    """

    section = "selectivity"
    best: ClassVar[Mapping[str, str]] = {"selective_share": "max"}

    def __init__(
        self,
        layers: Sequence[str],
        *,
        num_classes: int | None = None,
        num_latents: int | None = None,
        alpha: float = 0.05,
        output: Output = None,
        pool: Pool = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_alpha(alpha)
        check_integer(num_classes, "num_classes", or_none=True)
        check_integer(num_latents, "num_latents", or_none=True)
        self._layers, self._num_classes, self._alpha = (
            TappedLayers(layers, output=output, pool=pool),
            num_classes,
            alpha,
        )
        self._num_latents, self._num_given_classes, self._num_known = num_latents, num_classes, 0
        self._metrics = FeatureMetrics(self._layers.names, self._metric)
        self._latent_metrics = FeatureMetrics(self._layers.names, self._latent_metric)
        self.latents: dict[str, LatentSelectivityValues] = {}
        self._tables: dict[str, Table] = {}

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"layers": self._layers.names} | super().identity()

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise InputError if a layer or the number of classes is unknown."""
        self._layers.check(pl_module)
        self._num_classes = self._num_given_classes or class_count(trainer, "NeuronSelectivity")
        self._metric(num_features=1)  # checks the number of classes

    def layers_of(self, pl_module: LightningModule) -> Collection[str]:
        """The layers whose keys are logged."""
        return self._layers.names

    def forget(self) -> None:
        """Forget the model before, and what it knew of the latents."""
        super().forget()
        self.latents = {}

    def open(self, pl_module: LightningModule) -> None:
        """Forget the last look."""
        self._layers.open(pl_module)
        self._num_known = 0
        self._metrics.reset()
        self._latent_metrics.reset()

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Add the labelled images of a batch, and the latents of all images."""
        labels = read_known_labels(batch)[rows]
        features = self._layers.features(pl_module, rows_of(read_images(batch), rows))
        self.left_out |= self._layers.left_out
        is_known = labels >= 0
        self._num_known += int(is_known.sum())
        self._metrics.update({name: (found[is_known], labels[is_known]) for name, found in features.items()})
        if self._num_latents is not None:
            latents = read_latents(batch)[rows]
            # every latent is compared with all neurons
            self._latent_metrics.update(
                {name: (found.repeat(1, self._num_latents), latents) for name, found in features.items()}
            )

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """Selectivity of every layer over all ranks."""
        check_any_label(self._num_known)
        by_layer = self._metrics.compute(pl_module.device)
        self._tables = {f"{name}/classes": class_table(found) for name, found in by_layer.items()}
        values: dict[str, float | Tensor] = {
            f"{name}/{key}": getattr(found, key)
            for name, found in by_layer.items()
            for key in ("selective_share", "mean", "max", "max_z")
        }
        if self._num_latents is not None:
            self.latents = self._latent_metrics.compute(pl_module.device)
        for name, known in self.latents.items():
            check_both_values(known)
            values[f"{name}/latent_correlation"] = known.normalized_correlation.mean()
            values[f"{name}/latent_correlation_min"] = known.normalized_correlation.min()
        return values

    def close(self) -> None:
        """Let go of the sums."""
        self._layers.close()
        self._metrics.reset()
        self._latent_metrics.reset()
        self._tables = {}

    def pictures(self) -> dict[str, Picture]:
        """For each layer, a table of its most selective neuron for every class."""
        return dict(self._tables)

    def _metric(self, num_features: int) -> Selectivity:
        assert self._num_classes is not None
        return Selectivity(num_features, self._num_classes, alpha=self._alpha)

    def _latent_metric(self, num_features: int) -> LatentSelectivity:
        assert self._num_latents is not None
        return LatentSelectivity(self._num_latents, num_features // self._num_latents)


def class_table(found: SelectivityValues) -> Table:
    """What a layer knows of each class: its clearest neuron, and how many neurons are beyond chance.

    Args:
        found: Selectivity of D neurons for C classes.

    Returns:
        One row for each class that has samples, the first 200.
    """
    present = (~found.values.isnan().all(1)).nonzero().flatten()[:MAX_ROWS]
    z_scores, values = found.z_scores[present].cpu(), found.values[present].cpu()
    best = z_scores.abs().argmax(1)
    shares = (z_scores.abs() > found.z_threshold.cpu()).double().mean(1)
    rows = zip(present.tolist(), shares.tolist(), best.tolist(), values, z_scores, strict=True)
    return Table(
        ("class", "selective share", "clearest neuron", "selectivity", "z-score"),
        tuple((label, share, k, float(value[k]), float(z[k])) for label, share, k, value, z in rows),
    )
