"""GeneralizationMonitor: what the error bound of contrastive learning says, beside the true error."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_ssl_theory.checks import (
    InputError,
    check_integer,
    check_number,
    check_sequence,
    check_targets,
)
from lightning_ssl_theory.data.batch import read_known_labels, read_views
from lightning_ssl_theory.distributed import from_first_rank
from lightning_ssl_theory.metrics import (
    Concentration,
    NearestViews,
    augmentation_concentration,
    divergence_bounds,
    nearest_views,
    observed_lipschitz,
    smallest_bound,
    spectral_norm_product,
)
from lightning_ssl_theory.metrics.augmented_distances import distance_levels
from lightning_ssl_theory.metrics.smallest_bound import epsilon_levels
from lightning_ssl_theory.tracing import Output
from lightning_ssl_theory.tracing.inputs import stacked
from lightning_ssl_theory.tracing.layer_features import Pool

from .class_count import check_any_label
from .diagnostic import Diagnostic
from .gathered_views import EveryonesViews, RankViews
from .rank_shard import check_loader, rank_batches, transferred
from .tapped_layers import OUTPUT, TappedLayers

EPSILONS = (0.01, 0.03, 0.1, 0.3, 1.0)
_SECONDS = 0.1  # for the cliques of one class at one delta
_HALVES = 8  # of every class, which tell the standard error of sigma to a quarter


class GeneralizationMonitor(Diagnostic):
    r"""The three factors of generalization, the error bound made of them, and the true error, while a network trains.

    Features are those of a layer in evaluation mode, divided by their norms: r = 1, and all distances and products of
    features are relative to it. Logs, for each layer, `generalization/<layer>/`:

    - `alignment`: mean squared distance of two views of a sample;
    - `r_epsilon_<k>`: share of samples two of whose views are further apart than the k-th of `epsilons`;
      `r_epsilon_bound_<k>`: what alignment alone says of it, 1 where that is nothing;
    - `divergence`: largest product of two class centres; `delta_mu`: 1 - min ||mu_k||^2;
    - `divergence_bound_<loss>`: what the regularization of InfoNCE, cross-correlation, the spectral loss and VICReg
      says of it, at least 1 where that is nothing; `divergence_bound_barlow_twins` bounds `standardized_divergence`;
    - `lipschitz_observed`: largest ratio of a distance of features and one of inputs that was seen, at the nearest
      views of two samples of a class: an estimate, from below; `lipschitz_product`, for plain chains of layers: the
      product of spectral norms over min ||f||, from above;
    - `sigma_lower`, `sigma_upper`: bounds of the concentration of inputs at `delta`; `sigma_standard_error`: of the
      former as an estimate for other samples, from random halves of every class;
    - `rho_max`, `threshold`, `holds`, `bound`, `r_epsilon`: of the bound with `lipschitz_observed` and `sigma_lower`,
      at the `delta` and `epsilon` that make it smallest, among all distances of views of a sample and `epsilons`;
      where no condition holds, at those that come nearest;
    - `rho_alignment`, `rho_concentration`: the smallest rho_max had the other of the two factors been perfect;
    - `error`: of the nearest-centre classifier on the clean samples; `vacuous`: 1 where the bound says nothing

    All is exact for the samples and views of the look. As a statement on others the bound is an estimate: few views
    underestimate `r_epsilon` and sigma, and other samples may have a larger Lipschitz ratio.

    Distances of inputs do not depend on the weights: they and sigma are computed in the first look, from everyone's
    views on every rank, kept on the CPU (N^2 numbers), and computed again only where the loader gives other views.

    A look takes A passes over N samples and O(N^2 A^2 (D + A)) time for the bounds on divergence.

    Args:
        layers: Dotted paths; "output" is the network's output.
        views_loader: Batches (views, labels), the clean sample first, best the same views in every look; the
            datamodule's `views_dataloader()` by default.
        deltas: Distances of inputs; by default quantiles of the augmented distances within classes.
        epsilons: Distances of normalised features whose shares `r_epsilon_<k>` are logged.
        num_samples: Most samples in a look, over all ranks, spread evenly over the loader's set; `None` for all.
        memory_budget: Bytes that the first look may take for everyone's views, and for distances in between.
        output: What to call instead of the module, or the key or index of what its `embed`, else `forward` puts out.
        pool: Makes (N, D) of what a layer puts out where its axis of features does not show.
        **kwargs: See `Diagnostic`.

    References: W. Huang, M. Yi, X. Zhao, Z. Jiang, "Towards the Generalization of Contrastive Self-Supervised
    Learning", 2021, Theorem 1.
    """

    section = "generalization"
    best: ClassVar[Mapping[str, str]] = {"bound": "min", "error": "min"}
    needs_images = False

    def __init__(
        self,
        layers: Sequence[str] = (OUTPUT,),
        *,
        views_loader: DataLoader | Iterable[Any] | None = None,
        deltas: Sequence[float] | None = None,
        epsilons: Sequence[float] = EPSILONS,
        num_samples: int | None = 1000,
        memory_budget: int = 2**32,
        output: Output = None,
        pool: Pool = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_samples=num_samples, **kwargs)
        check_loader(views_loader, "views_loader")
        check_integer(memory_budget, "memory_budget", advice="pass bytes")
        for name, values in {"deltas": deltas, "epsilons": epsilons}.items():
            if values is not None or name == "epsilons":
                check_sequence(values, name)
                for value in values or ():
                    check_number(value, name, "[0, inf)", advice="they are distances")
        self._layers = TappedLayers(layers, output=output, pool=pool)
        self._views_loader, self._memory_budget = views_loader, memory_budget
        self._deltas = None if deltas is None else torch.tensor(list(deltas), dtype=torch.float64)
        self._epsilons = torch.tensor(list(epsilons), dtype=torch.float64)
        self._inputs: _Inputs | None = None

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"layers": self._layers.names} | super().identity()

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise InputError if a layer is unknown or there are no views."""
        self._layers.check(pl_module)
        self._loader(trainer)

    def layers_of(self, pl_module: LightningModule) -> Collection[str]:
        """The layers whose keys are logged."""
        return self._layers.names

    def forget(self) -> None:
        """Forget the model before, and the distances of its inputs."""
        super().forget()
        self._inputs = None

    def open(self, pl_module: LightningModule) -> None:
        """Take the first rank's buffers."""
        self._layers.open(pl_module)

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Nothing to take in: a look reads its own views."""

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """The bound and its parts for every layer, over all ranks."""
        own = RankViews()
        for loaded in rank_batches(self._loader(trainer), self._num_samples):
            self._add(pl_module, own, self._read(transferred(pl_module, loaded)))
        everyones = own.everyones(self._layers.names)
        self.left_out |= self._layers.left_out
        labels = _labels(everyones.labels, getattr(getattr(trainer, "datamodule", None), "num_classes", None))
        inputs = self._inputs_of(own, everyones)
        values: dict[str, Tensor] = {}
        for name, features in everyones.features.items():
            product = self._product(pl_module, own, name)
            found = self._of_layer(features[everyones.labels >= 0], labels, inputs, product, name)
            values |= {f"{name}/{key}": value for key, value in found.items()}
        # equal on all ranks but for the time that a search for cliques had, and for what runs on other hardware
        same = from_first_rank(torch.stack([value.double() for value in values.values()]))
        return {key: value for key, value in zip(values, same, strict=True) if not value.isnan()}

    def close(self) -> None:
        """Let go of the buffers; the distances of inputs stay."""
        self._layers.close()

    def _loader(self, trainer: Trainer) -> Any:
        if self._views_loader is not None:
            return self._views_loader
        views_dataloader = getattr(getattr(trainer, "datamodule", None), "views_dataloader", None)
        if views_dataloader is None:
            raise InputError(
                "Expected views of labelled samples for GeneralizationMonitor, found neither `views_loader` nor a "
                "datamodule with `views_dataloader()`; pass GeneralizationMonitor(views_loader=...)."
            )
        return views_dataloader()

    def _add(self, pl_module: LightningModule, own: RankViews, batch: Any) -> None:
        views = stacked(_alike(read_views(batch))).to(pl_module.device)
        own.add(views, read_known_labels(batch), self._layers.features(pl_module, views.flatten(0, 1)))

    def _inputs_of(self, own: RankViews, everyones: EveryonesViews) -> "_Inputs":
        known = self._inputs
        if known is None or known.marks.shape != everyones.marks.shape or not known.is_of(everyones):
            needed = 8 * own.num_inputs  # two copies in float32
            if needed > self._memory_budget:
                raise InputError(
                    f"Expected the views of a look to fit into `memory_budget` = {self._memory_budget} bytes, found "
                    f"{needed}; raise it, or lower `num_samples`."
                )
            views = own.everyones_inputs(everyones.order)
            known = self._inputs = _inputs(views, everyones, self._deltas, self._memory_budget - needed)
        return known

    def _product(self, pl_module: LightningModule, own: RankViews, name: str) -> float:
        layers = None if own.example is None else self._layers.chain(pl_module, own.example, name)
        product = spectral_norm_product(layers) if layers else None
        return torch.nan if product is None else product

    def _of_layer(
        self, features: Tensor, labels: Tensor, inputs: "_Inputs", product: float, name: str
    ) -> dict[str, Tensor]:
        features = features.double()
        norms = features.norm(dim=2, keepdim=True)
        if not norms.all():
            raise InputError(
                f"Expected features of a norm at layer {name!r}, found {int((norms == 0).sum())} of {norms.numel()} "
                "that are zero; look at a layer before it, or check for dead units."
            )
        features = features / norms
        lipschitz = observed_lipschitz(features, inputs.nearest)
        sigma = inputs.concentration
        epsilons = torch.cat([self._epsilons, epsilon_levels(features).cpu()])
        found = smallest_bound(
            features,
            labels,
            sigmas=sigma.sigma_lower,
            deltas=inputs.deltas,
            epsilons=epsilons,
            lipschitz=lipschitz,
        )
        delta, epsilon = found.cell.tolist()
        values = {
            "delta": inputs.deltas[delta],
            "epsilon": epsilons[epsilon],
            "sigma_lower": sigma.sigma_lower[delta],
            "sigma_upper": sigma.sigma_upper[delta],
            "sigma_standard_error": sigma.standard_error[delta],
            "lipschitz_observed": lipschitz,
            "lipschitz_product": product / norms.min(),
        }
        for key, shares in (("r_epsilon", found.r_epsilons), ("r_epsilon_bound", found.r_epsilon_bounds)):
            given = shares[: len(self._epsilons)]
            values |= {f"{key}_{k}": share for k, share in enumerate(given, start=1)}
        values |= {key: value for key, value in found._asdict().items() if not value.ndim}
        bounds = divergence_bounds(features, labels)
        values["standardized_divergence"] = bounds.standardized_divergence
        names = ("info_nce", "cross_correlation", "spectral", "vicreg", "barlow_twins")
        return values | {f"divergence_bound_{loss}": getattr(bounds, loss) for loss in names}


class _Inputs(NamedTuple):
    """What is known of the inputs of a run's looks."""

    marks: Tensor
    nearest: NearestViews
    deltas: Tensor
    concentration: Concentration

    def is_of(self, views: EveryonesViews) -> bool:
        return torch.allclose(self.marks, views.marks, rtol=1e-9)


def _inputs(views: Tensor, everyones: EveryonesViews, deltas: Tensor | None, memory_budget: int) -> _Inputs:
    is_known = everyones.labels >= 0
    labels = everyones.labels[is_known]
    nearest = nearest_views(views[is_known], labels, memory_budget=max(1, min(memory_budget, 2**28)))
    deltas = distance_levels(nearest.distances) if deltas is None else deltas
    concentration = augmentation_concentration(
        nearest.distances, labels, deltas, seconds=_SECONDS, num_subsamples=_HALVES
    )
    return _Inputs(everyones.marks, nearest, deltas, concentration)


def _labels(labels: Tensor, num_classes: Any) -> Tensor:
    known = labels[labels >= 0]
    check_any_label(len(known))
    check_targets(known, len(known), num_classes if isinstance(num_classes, int) else None, "labels")
    return known


def _alike(views: list[Any]) -> list[Tensor]:
    shapes = {tuple(view.shape) if isinstance(view, Tensor) else type(view).__name__ for view in views}
    if len(shapes) > 1 or not isinstance(views[0], Tensor):
        raise InputError(
            f"Expected views of one shape, as tensors, for the distances between them, got {sorted(map(str, shapes))}; "
            "pass `views_loader=` that makes such views, the clean sample first."
        )
    return [view.float() if not view.is_floating_point() else view for view in views]
