"""The reduced flow that runs beside the training of two layers, from the same start and by the same clock."""

from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.data.batch import read_views
from lightning_ssl_theory.flows import (
    canonical_flow,
    eigenbasis,
    flow_outputs,
    grassmann_flow,
    stiefel_flow,
    trace_matrix,
)
from lightning_ssl_theory.losses import TraceLoss

FLOWS = {"grassmann": grassmann_flow, "stiefel": stiefel_flow, "canonical": canonical_flow}
"""The flows by name."""


class Comparison(NamedTuple):
    """The network beside the flow, on the reference set."""

    distance: float
    """Relative Frobenius distance of the outputs at x."""
    network_loss: float
    """Trace loss of the network's outputs."""
    flow_loss: float
    """Trace loss of the flow's outputs."""


class FlowOverlay:
    """Outputs of a reduced flow on a fixed reference set, advanced to the time that training has reached.

    Args:
        reference: Batch of any known format with at least two views: x and x^+. As in `TraceLoss`, x^- is the next
            sample's x.
        flow: "grassmann", "stiefel" or "canonical".
        contrastive: Whether the loss has negatives.

    Raises:
        InputError: If the format of the batch is unknown, or if the flow is unknown, or the batch gives no C.
    """

    def __init__(self, reference: Any, flow: str, *, contrastive: bool) -> None:
        if flow not in FLOWS:
            raise InputError(f"Expected `flow` to be one of {', '.join(FLOWS)}, got {flow!r}; choose one.")
        x, positives = (view.detach().cpu() for view in read_views(reference)[:2])
        self._flow, self._loss = FLOWS[flow], TraceLoss(contrastive)
        self._basis = eigenbasis(trace_matrix(x, positives, x.roll(-1, 0) if contrastive else None))
        self._views = [x, positives]
        self.time = 0.0
        self._outputs: Tensor | None = None
        self._outputs_time = 0.0

    def restart(self) -> None:
        """Set the clock back; the next comparison starts the flow."""
        self.time, self._outputs, self._outputs_time = 0.0, None, 0.0

    @property
    def images(self) -> Tensor:
        """The reference set: x, then x^+, (2 N, *)."""
        return torch.cat(self._views)

    @property
    def num_features(self) -> int:
        """Numbers of a sample."""
        return len(self._basis.eigenvalues)

    def compare(self, product: Tensor, outputs: Tensor) -> Comparison:
        """Advance the flow to the present time; the first time, start it from the layers' product.

        Args:
            product: W_2^T W_1 of the layers now, (z, d).
            outputs: Of the network at `images`, (2 N, z).

        Returns:
            The comparison.

        Raises:
            InputError: If the product does not fit the reference set, or its spectral norm exceeds 1 at the start.
        """
        if self._outputs is None:
            # in the dtype of the weights: orthonormal up to its rounding is orthonormal to the flow
            start = (product.detach().cpu().double() @ self._basis.eigenvectors).to(product.dtype)
            elapsed = 0.0
        else:
            start, elapsed = self._outputs, self.time - self._outputs_time
        (now,) = self._flow(start, self._basis.eigenvalues, torch.tensor([elapsed], dtype=torch.float64))
        self._outputs, self._outputs_time = now, self.time
        predicted = flow_outputs(now, self._basis.eigenvectors, self.images).chunk(2)
        measured = outputs.detach().cpu().double().chunk(2)
        distance = (measured[0] - predicted[0]).norm() / predicted[0].norm().clamp(min=1e-300)
        losses = (float(self._loss(*pair)) for pair in (measured, predicted))
        return Comparison(float(distance), *losses)

    def state_dict(self) -> dict[str, Any]:
        """The clock, and where the flow is."""
        return {"time": self.time, "outputs": self._outputs, "outputs_time": self._outputs_time}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.time, self._outputs, self._outputs_time = state["time"], state["outputs"], state["outputs_time"]


def check_plain_descent(trainer: Trainer) -> None:
    """Raise unless training is gradient descent whose time is the sum of the learning rates.

    Args:
        trainer: With its optimizers.

    Raises:
        InputError: If there is not one optimizer with one learning rate, or it has momentum, weight decay or adapts.
    """
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    extras = sorted({key for group in groups for key in _EXTRAS if group.get(key)})
    rates = {group["lr"] for group in groups}
    if len(trainer.optimizers) != 1 or extras or len(rates) != 1:
        names = ", ".join(type(optimizer).__name__ for optimizer in trainer.optimizers)
        raise InputError(
            "Expected plain gradient descent with one learning rate, whose time a flow shares, got "
            f"{names or 'no optimizer'}{' with ' + ', '.join(extras) if extras else ''}"
            f"{f' and {len(rates)} learning rates' if len(rates) > 1 else ''}; leave `reference` out."
        )


_EXTRAS = ("momentum", "weight_decay", "betas", "alpha", "rho", "lr_decay", "etas", "maximize")
