"""CovarianceOperators: the operator that drives each layer, and how well theory predicts the gradient."""

from collections.abc import Collection, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_ssl_theory.checks import InputError, check_callable, check_flag, check_integer, check_word
from lightning_ssl_theory.data.batch import read_views
from lightning_ssl_theory.distributed import all_gather_rows, all_sum
from lightning_ssl_theory.operators import (
    PairwiseObjective,
    Spectrum,
    covariance_scalars,
    covariance_spectra,
)
from lightning_ssl_theory.operators.pair_coefficients import Estimator, check_estimator
from lightning_ssl_theory.tracing import Inputs, LayerChoice, Output, resolve_layers
from lightning_ssl_theory.tracing.chunked_trace import MEMORY_BUDGET
from lightning_ssl_theory.tracing.filter_images import filter_images
from lightning_ssl_theory.tracing.inputs import in_precision, rows_of, stacked, tensors_of
from lightning_ssl_theory.tracing.layer_names import check_layers, weight_places
from lightning_ssl_theory.tracing.network_output import check_output

from .diagnostic import Diagnostic
from .pictures import Curve, Picture, filter_grid

MAX_EIGENVECTORS, MAX_FILTERS, MAX_WEIGHTS = 4, 16, 2**16
"""What of the eigenvectors is drawn, and the largest layer whose eigenvectors a checkpoint keeps."""


class CovarianceOperators(Diagnostic):
    r"""Covariance operators OP_l = V_x[E_aug K_l] of the layers, from the views of a training batch.

    Logs, for each layer, `covariance/<layer>/`:

    - `trace` of OP_l: how strongly what survives augmentation drives it;
    - `signal_ratio`: tr OP / (tr OP + tr OP^aug), in [0, 1];
    - `growth_rate`: w^T OP w / ||w||^2; under L_simp d ln||w|| / dt is twice it;
    - `frobenius_norm` of OP_l;
    - each of these with its error over the random probes, `<quantity>_error95`, where there is one: the half-width
      that covers 95 % of the draws (half of it stays under `<quantity>_stderr` for one release);
    - `residual`, `cosine`: theory's prediction of the gradient of the loss in use against the true gradient, with
      BatchNorm's statistics held; only for losses with `pair_weight`, on the loss's own (normalised) output;
    - for `spectra_layers`, `eigenvalue_1` …, `weight_cosine`, the cosine between the weight and the span of their
      eigenvectors, and, where all eigenvalues are computed, `effective_rank`.

    And once `covariance/weight_share`, the share of the trainable parameters that the look covers; layers that cannot
    be looked at are named in a warning.

    A look costs one forward and `num_probes` + 3 backward passes over its samples (one more forward pass where the
    memory budget asks for chunks) and the sums of per-sample gradients; what crosses ranks is as many gradients.

    Args:
        layers: Dotted paths, patterns ("backbone.layer4.*") and types (nn.Conv2d) of layers whose weight enters a
            linear map, a convolution or a normalisation, attention included; every layer whose weight mixes features,
            and that the output depends on, by default.
        output: What to call; or the key or index of what `embed`, where the module has it, else `forward` puts out.
        keep_dropout: Whether dropout stays on, its masks drawn from the look's own generator, the same for the operator
            and for the gradient. A batch with one view then counts as two, whose masks differ.
        loss: The pairwise loss to predict; the module's `loss` where it has a `pair_weight`, by default.
        num_probes: m random probes for the trace, the ratio and the norm; `None` for all n_L unit probes (exact).
        num_samples: Most samples in a look, over all ranks.
        spectra_layers: Layers whose spectrum is wanted, chosen like `layers`.
        num_eigenvalues: How many eigenvalues are logged.
        estimator: "plugin" (the look's samples and views are the population) or "unbiased"; spectra are the plug-in's.
        precision: Floating type of a look; scalars of a nearly collapsed one are computed again in float64.
        memory_budget: Bytes that a chunk of samples may take.
        seed: Of the probes, together with the step: a resumed run draws the same.
        **kwargs: See `Diagnostic`.

    Attributes:
        spectra: Eigenpairs of the last look, by layer.

    References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
    Networks", 2020, Theorems 3 and 4.
    """

    section = "covariance"
    looks_at_training = True

    def __init__(
        self,
        layers: Sequence[LayerChoice] | LayerChoice | None = None,
        *,
        output: Output = None,
        keep_dropout: bool = False,
        loss: nn.Module | PairwiseObjective | None = None,
        num_probes: int | None = 4,
        num_samples: int | None = 256,
        spectra_layers: Sequence[LayerChoice] | LayerChoice = (),
        num_eigenvalues: int = 8,
        estimator: Estimator = "plugin",
        precision: Literal["float32", "float64"] = "float32",
        memory_budget: int = MEMORY_BUDGET,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_samples=num_samples, **kwargs)
        check_layers(layers, "layers", or_none=True)
        check_layers(spectra_layers, "spectra_layers", at_least=0)
        check_output(output)
        check_flag(keep_dropout, "keep_dropout")
        check_callable(loss, "loss", or_none=True)
        check_integer(num_probes, "num_probes", advice="use None for exact values", or_none=True)
        check_integer(num_eigenvalues, "num_eigenvalues", advice="leave out `spectra_layers`")
        check_word(precision, "precision", Literal["float32", "float64"])
        check_integer(memory_budget, "memory_budget")
        check_integer(seed, "seed", at_least=0)
        check_estimator(estimator)
        self._layers, self._spectra_layers = layers, spectra_layers
        self._output, self._loss, self._num_probes, self._seed = output, loss, num_probes, seed
        self._keep_dropout = keep_dropout
        self._num_eigenvalues, self._memory_budget = num_eigenvalues, memory_budget
        self._estimator, self._dtype = estimator, getattr(torch, precision)
        self._views: Any = None
        self.spectra: dict[str, Spectrum] = {}

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"layers": repr(self._layers)} | super().identity()

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise InputError if a layer is unknown or there is none."""
        is_matrix = [is_lazy(value) or value.ndim > 1 for value in pl_module.parameters()]
        if not resolve_layers(pl_module, self._layers) or (self._layers is None and not any(is_matrix)):
            raise InputError(
                f"Expected a layer with a weight matrix in {type(pl_module).__name__}, found none; "
                "leave CovarianceOperators out."
            )
        resolve_layers(pl_module, self._spectra_layers)

    def layers_of(self, pl_module: LightningModule) -> Collection[str]:
        """The layers whose keys are logged."""
        return list(resolve_layers(pl_module, self._layers))

    def open(self, pl_module: LightningModule) -> None:
        """Forget the last look."""
        self._views = None

    def forget(self) -> None:
        """Forget the model before, and its spectra."""
        super().forget()
        self.spectra = {}

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Keep the views of this batch, (n, A, *input)."""
        views = [
            in_precision(rows_of(view, rows), self._dtype)
            for view in read_views(batch, min_views=1 if self._keep_dropout else 2)
        ]
        views = views * 2 if len(views) == 1 else views
        shapes = [tuple(tuple(part.shape[1:]) for part in tensors_of(view)) for view in views]
        alike = [view for view, shape in zip(views, shapes, strict=True) if shape == shapes[0]]
        if len(alike) < 2:
            raise InputError(
                f"Expected two views of the first one's shape for a covariance, got {sorted(set(shapes))}; "
                "choose them by `read_batch=`."
            )
        if len(alike) < len(views):
            self.left_out[f"{len(views) - len(alike)} of {len(views)} views"] = (
                "Expected views of the first one's shape, such as global crops; choose others by `read_batch=`."
            )
        self._views = stacked(alike)
        if not all(part.isfinite().all() for part in tensors_of(self._views)):
            raise InputError(
                "Expected finite images in the batch, found NaN or infinity; check the data, or what `read_batch=` "
                "gives."
            )
        if not self._keep_dropout and not any(
            (part != part[:, :1]).any() for part in tensors_of(self._views)
        ):
            self.left_out["augmentation"] = (
                "Expected views that differ, got equal ones, as for views made by dropout, which is off in a look; "
                "pass `keep_dropout=True`."
            )

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """Scalars of every layer, and spectra, over all ranks."""
        assert self._views is not None
        return self._scalars(self._views, trainer.global_step, pl_module) | self._spectra(
            self._views, trainer.global_step, pl_module
        )

    def close(self) -> None:
        """Let go of the views."""
        self._views = None

    def pictures(self) -> dict[str, Picture]:
        """The spectra, and the leading eigenvectors of layers that look at pixels, a row of filters each."""
        shown: dict[str, Picture] = {
            f"{name}/spectrum": Curve(f"Spectrum of {name}", tuple(found.eigenvalues.tolist()))
            for name, found in self.spectra.items()
        }
        return shown | {
            f"{name}/eigenvectors": filter_grid([_filters(vector) for vector in vectors])
            for name, vectors in self._drawable().items()
        }

    def state_dict(self) -> dict[str, Any]:
        """The values, and the eigenvectors of layers that look at pixels, from which a report draws them."""
        return super().state_dict() | {"eigenvectors": self._drawable()}

    def _drawable(self) -> dict[str, Tensor]:
        return {
            name: spectrum.eigenvectors[:MAX_EIGENVECTORS].float().cpu()
            for name, spectrum in self.spectra.items()
            if spectrum.eigenvectors[0].numel() <= MAX_WEIGHTS
            and filter_images(spectrum.eigenvectors[0]) is not None
        }

    def _scalars(self, views: Inputs, step: int, pl_module: LightningModule) -> dict[str, float | Tensor]:
        loss: Any = self._loss or getattr(pl_module, "loss", None)
        found = covariance_scalars(
            pl_module,
            views,
            self._layers,
            num_probes=self._num_probes,
            loss=loss if hasattr(loss, "pair_weight") else None,
            exact_growth=self._spectra_layers,
            estimator=self._estimator,
            output=self._output,
            dropout_seed=self._dropout_seed(step),
            dtype=self._dtype,
            memory_budget=self._memory_budget,
            generator=torch.Generator().manual_seed(self._seed * 1_000_003 + step),
            all_sum=all_sum,
        )
        self.left_out |= found.left_out
        values: dict[str, float | Tensor] = {"weight_share": _weight_share(pl_module, list(found))}
        for name, scalars in found.items():
            for key, value in scalars._asdict().items():
                if value is not None and value.isfinite():
                    values[f"{name}/{key}"] = value
                    if key.endswith("_error95"):
                        values[f"{name}/{key.replace('_error95', '_stderr')}"] = value / 2
        return values

    def _dropout_seed(self, step: int) -> int | None:
        return self._seed * 1_000_003 + step if self._keep_dropout else None

    def _spectra(self, views: Inputs, step: int, pl_module: LightningModule) -> dict[str, float | Tensor]:
        values: dict[str, float | Tensor] = {}
        self.spectra = covariance_spectra(
            pl_module,
            views,
            self._spectra_layers,
            num_eigenvalues=self._num_eigenvalues,
            output=self._output,
            dropout_seed=self._dropout_seed(step),
            dtype=self._dtype,
            memory_budget=self._memory_budget,
            all_sum=all_sum,
            all_gather_rows=all_gather_rows,
        )
        for name, spectrum in self.spectra.items():
            values |= {
                f"{name}/eigenvalue_{k}": value for k, value in enumerate(spectrum.eigenvalues, start=1)
            }
            values[f"{name}/weight_cosine"] = spectrum.weight_cosine
            if spectrum.effective_rank is not None:
                values[f"{name}/effective_rank"] = spectrum.effective_rank
        return values


def _weight_share(module: nn.Module, names: Sequence[str]) -> float:
    # of the parameters that are trained, of all where none is
    sizes = {name: value.numel() for name, value in module.named_parameters() if value.requires_grad}
    sizes = sizes or {name: value.numel() for name, value in module.named_parameters()}
    places = weight_places(module, with_aliases=True)
    covered = {places[name] for name in names}
    found = sum(sizes.get(place.key, 0) / (1 if place.part is None else 3) for place in covered)
    return found / sum(sizes.values())


def _filters(vector: Tensor) -> Tensor:
    filters = filter_images(vector)
    assert filters is not None
    return filters[:MAX_FILTERS]
