"""OrthogonalityMonitor: how far constrained weights drift from orthonormal columns, and outputs from their ODE."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from lightning_ssl_theory.checks import InputError, check_flag
from lightning_ssl_theory.flows.reduced_flows import check_flow
from lightning_ssl_theory.manifolds import orthogonality_drift
from lightning_ssl_theory.tracing import find_module
from lightning_ssl_theory.tracing.frozen_call import weight_of
from lightning_ssl_theory.tracing.layer_names import check_layers

from .diagnostic import Diagnostic
from .flow_overlay import FlowOverlay, check_plain_descent
from .tapped_layers import OUTPUT, TappedLayers, as_names


class OrthogonalityMonitor(Diagnostic):
    """Spectral norm of W^T W - I for the weights of named layers, `orthogonality/<layer>/drift`.

    A weight with fewer rows than columns is transposed first.

    With a `reference` set it also runs the reduced flow of two layers, W_1 then W_2, beside their training: from the
    product of the weights at the first look, with C from the reference set, up to t, the sum of the learning rates.
    It logs `orthogonality/output/flow_distance`, the relative Frobenius distance between the outputs of the network
    and of the flow at the reference points, and the trace loss of both, `orthogonality/network/trace_loss` and
    `orthogonality/flow/trace_loss`.

    Args:
        layers: Dotted paths of layers with a weight matrix.
        reference: Batch with at least two views, x and x^+; `None` for the drift alone.
        flow: "stiefel" (what "stiefel" and "polar" follow), "grassmann" or "canonical".
        contrastive: Whether the loss has negatives.
        **kwargs: See `Diagnostic`.

    Raises:
        InputError: If the format of the reference batch or the flow is unknown, or there are not two layers for it.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023.
    """

    section = "orthogonality"
    best: ClassVar[Mapping[str, str]] = {"drift": "max", "flow_distance": "max"}
    looks_at_training = True
    needs_images = False

    def __init__(
        self,
        layers: Sequence[str],
        *,
        reference: Sequence[Tensor] | Any = None,
        flow: str = "stiefel",
        contrastive: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_layers(layers, "layers")
        check_flow(flow)
        check_flag(contrastive, "contrastive")
        self._names = as_names(layers)
        self._overlay = None if reference is None else FlowOverlay(reference, flow, contrastive=contrastive)
        self._output = TappedLayers([OUTPUT])
        self._flow = flow if self._overlay else None
        if self._overlay and len(self._names) != 2:
            raise InputError(
                f"Expected two `layers` beside a `reference`, W_1 and W_2, got {len(self._names)}; "
                "name both layers of the network."
            )

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"layers": self._names, "flow": self._flow} | super().identity()

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise InputError if a layer is unknown or has no weight matrix, or the layers do not fit the reference."""
        weights = [self._weight(pl_module, name) for name in self._names]
        if self._overlay:
            first, second = (tuple(weight.shape) for weight in weights)
            if first[1] != self._overlay.num_features or second[1] != first[0]:
                raise InputError(
                    f"Expected weights (H, {self._overlay.num_features}) and (Z, H) for the reference set, got "
                    f"{first} and {second}; name the layers in the order in which data pass them."
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Beside a flow, raise ValueError unless training is plain gradient descent."""
        if self._overlay:
            check_plain_descent(trainer)
        super().on_train_start(trainer, pl_module)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Let the flow's clock advance by the learning rate."""
        if self._overlay:
            self._overlay.time += optimizer.param_groups[0]["lr"]

    def layers_of(self, pl_module: LightningModule) -> Collection[str]:
        """The layers whose keys are logged."""
        return self._names

    def forget(self) -> None:
        """Forget the model before, and the flow beside it."""
        super().forget()
        if self._overlay:
            self._overlay.restart()

    def open(self, pl_module: LightningModule) -> None:
        """Take the first rank's buffers; of the weights there is nothing to forget."""
        if self._overlay:
            self._output.open(pl_module)

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Nothing to take in."""

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """The drift of every layer, and how the flow compares."""
        weights = {name: self._weight(pl_module, name) for name in self._names}
        for name, weight in weights.items():
            if not weight.isfinite().all():
                raise InputError(
                    f"Expected a finite weight in layer {name!r}, found NaN or infinity; lower the learning rate."
                )
        drift = {f"{name}/drift": orthogonality_drift(weight) for name, weight in weights.items()}
        return drift | (self._beside_flow(pl_module, self._overlay) if self._overlay else {})

    def close(self) -> None:
        """Let go of the first rank's buffers."""
        self._output.close()

    def state_dict(self) -> dict[str, Any]:
        """What every diagnostic keeps, and where the flow is."""
        return super().state_dict() | ({"flow": self._overlay.state_dict()} if self._overlay else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        super().load_state_dict(state_dict)
        if self._overlay and "flow" in state_dict:
            self._overlay.load_state_dict(state_dict["flow"])

    def _beside_flow(self, pl_module: LightningModule, overlay: FlowOverlay) -> dict[str, float | Tensor]:
        first, second = (self._weight(pl_module, name).double() for name in self._names)
        (outputs,) = self._output.features(pl_module, overlay.images.to(pl_module.device)).values()
        found = overlay.compare(second @ first, outputs)
        return {
            "output/flow_distance": found.distance,
            "network/trace_loss": found.network_loss,
            "flow/trace_loss": found.flow_loss,
        }

    def _weight(self, pl_module: LightningModule, name: str) -> Tensor:
        layer = find_module(pl_module, name)
        weight = weight_of(pl_module, layer)
        if weight is None or weight.ndim < 2:
            raise InputError(
                f"Expected layer {name!r} with a weight matrix, got {type(layer).__name__}; "
                "name a linear or convolutional layer."
            )
        return weight.flatten(1)
