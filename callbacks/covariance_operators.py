"""CovarianceOperators: the operator that drives each layer, and how well theory predicts the gradient."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory.data.batch import read_views
from lightning_ssl_theory.distributed import all_sum, failing_together
from lightning_ssl_theory.operators import (
    NetworkTrace,
    covariance_scalars,
    effective_rank,
    gradient_prediction,
    rademacher_probes,
    resolve_layers,
    signal_spectrum,
    trace_network,
)
from lightning_ssl_theory.operators.gradient_prediction import PairwiseObjective
from lightning_ssl_theory.operators.pair_coefficients import Estimator, check_estimator

from .diagnostic import Diagnostic
from .tapped_layers import as_names, network_output


class CovarianceOperators(Diagnostic):
    r"""Covariance operators OP_l = V_x[E_aug K_l] of the layers, from the views of a training batch.

    Logs, for each layer, `covariance/<layer>/`:

    - `trace` of OP_l, with `trace_stderr` over random probes: how strongly what survives augmentation drives it;
    - `signal_ratio`: tr OP / (tr OP + tr OP^aug), in [0, 1];
    - `growth_rate`: w^T OP w / ||w||^2; under L_simp d ln||w|| / dt is twice it;
    - `residual`, `cosine`: theory's prediction of the gradient of the loss in use against the true gradient, with
      BatchNorm's statistics held; only for losses with `pair_weight`, on the loss's own (normalised) output;
    - for `spectra_layers`, `eigenvalue_1` … and `effective_rank`, from all unit probes.

    A look costs one forward and `num_probes` + 2 backward passes over its samples, and one more for each output where
    spectra are asked for; what crosses ranks is as many gradients.

    Args:
        layers: Dotted paths of Linear, Conv1d and Conv2d layers; all that the output depends on by default.
        output: What to call; `embed` where the module has it, else `forward`, by default.
        loss: The pairwise loss to predict; the module's `loss` where it has a `pair_weight`, by default.
        num_probes: m random probes for the trace, the ratio and the growth; `None` for all n_L unit probes (exact).
        num_samples: Most samples in a look, over all ranks.
        spectra_layers: Small layers whose spectrum is wanted.
        num_eigenvalues: How many eigenvalues are logged.
        estimator: "plugin" (the look's samples and views are the population) or "unbiased".
        precision: Floating type of a look.
        seed: Of the probes, together with the step: a resumed run draws the same.
        **kwargs: See `Diagnostic`.

    References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
    Networks", 2020, Theorems 3 and 4.
    """

    section = "covariance"
    looks_at_training = True

    def __init__(
        self,
        layers: Sequence[str] | None = None,
        *,
        output: Callable[[Tensor], Tensor] | None = None,
        loss: PairwiseObjective | None = None,
        num_probes: int | None = 4,
        num_samples: int | None = 256,
        spectra_layers: Sequence[str] = (),
        num_eigenvalues: int = 8,
        estimator: Estimator = "plugin",
        precision: Literal["float32", "float64"] = "float32",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_samples=num_samples, **kwargs)
        if num_probes is not None and num_probes < 1:
            raise ValueError(
                f"Expected `num_probes` of at least 1, got {num_probes}; use None for exact values."
            )
        if num_eigenvalues < 1:
            raise ValueError(
                f"Expected `num_eigenvalues` of at least 1, got {num_eigenvalues}; leave out `spectra_layers`."
            )
        if precision not in ("float32", "float64"):
            raise ValueError(
                f"Expected `precision` float32 or float64, got {precision}; half is too coarse here."
            )
        check_estimator(estimator)
        self._layers = None if layers is None else as_names(layers)
        self._output, self._loss, self._num_probes, self._seed = output, loss, num_probes, seed
        self._spectra_layers, self._num_eigenvalues = as_names(spectra_layers), num_eigenvalues
        self._estimator, self._dtype = estimator, getattr(torch, precision)
        self._views: Tensor | None = None

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"layers": self._layers} | super().identity()

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ValueError if a layer is unknown or of another type, or there is none."""
        if not resolve_layers(pl_module, self._layers):
            raise ValueError(
                f"Expected a Linear, Conv1d or Conv2d layer in {type(pl_module).__name__}, found none; "
                "leave CovarianceOperators out."
            )
        resolve_layers(pl_module, self._spectra_layers)

    def open(self, pl_module: LightningModule) -> None:
        """Forget the last look."""
        self._views = None

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Keep the views of this batch, (n, A, *input)."""
        views = [view[rows] for view in read_views(batch, min_views=2)]
        shapes = {tuple(view.shape[1:]) for view in views}
        if len(shapes) > 1:
            raise ValueError(
                f"Expected views of one shape for a covariance, got {sorted(shapes)}; leave local crops out."
            )
        self._views = torch.stack(views, dim=1).to(self._dtype)
        if not self._views.isfinite().all():
            raise ValueError("Expected finite images in the batch, found NaN or infinity; check the data.")

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """Scalars of every layer, and spectra, over all ranks."""
        views, self._views = self._views, None
        assert views is not None
        num_views = views.shape[1]
        layers = None if self._layers is None else list(dict.fromkeys(self._layers + self._spectra_layers))
        with torch.inference_mode(False), torch.enable_grad():
            with failing_together():
                trace = trace_network(
                    pl_module,
                    views.flatten(0, 1),
                    layers,
                    output=self._output or network_output(pl_module),
                    all_sum=all_sum,
                )
            return (
                self._scalars(trace, num_views, trainer.global_step)
                | self._prediction(trace, num_views, pl_module)
                | self._spectra(trace, num_views)
            )

    def _scalars(self, trace: NetworkTrace, num_views: int, step: int) -> dict[str, float | Tensor]:
        outputs = trace.outputs
        if self._num_probes is None:
            probes = torch.eye(outputs.shape[1])
        else:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
            probes = rademacher_probes(self._num_probes, outputs.shape[1], generator=generator)
        found = covariance_scalars(
            trace,
            probes.to(outputs),
            num_views=num_views,
            is_exact=self._num_probes is None,
            estimator=self._estimator,
            all_sum=all_sum,
        )
        return {f"{name}/{key}": value for name, s in found.items() for key, value in s._asdict().items()}

    def _prediction(
        self, trace: NetworkTrace, num_views: int, pl_module: LightningModule
    ) -> dict[str, float | Tensor]:
        loss: Any = self._loss or getattr(pl_module, "loss", None)
        if not hasattr(loss, "pair_weight"):
            return {}
        found = gradient_prediction(trace, loss, num_views=num_views)
        return {f"{name}/{key}": value for name, q in found.items() for key, value in q._asdict().items()}

    def _spectra(self, trace: NetworkTrace, num_views: int) -> dict[str, float | Tensor]:
        values: dict[str, float | Tensor] = {}
        for name, spectrum in signal_spectrum(trace, self._spectra_layers, num_views=num_views).items():
            top = spectrum[: self._num_eigenvalues]
            values |= {f"{name}/eigenvalue_{k}": value for k, value in enumerate(top, start=1)}
            values[f"{name}/effective_rank"] = effective_rank(spectrum)
        return values
