"""OrthogonalityMonitor: how far constrained weights have drifted from orthonormal columns."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory.manifolds import orthogonality_drift
from lightning_ssl_theory.operators import find_module

from .diagnostic import Diagnostic
from .tapped_layers import as_names


class OrthogonalityMonitor(Diagnostic):
    """Spectral norm of W^T W - I for the weights of named layers, `orthogonality/<layer>/drift`.

    A weight with fewer rows than columns is transposed first.

    Args:
        layers: Dotted paths of layers with a weight matrix.
        **kwargs: See `Diagnostic`.

    References: P. Esser, M. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023.
    """

    section = "orthogonality"
    looks_at_training = True
    needs_images = False

    def __init__(self, layers: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._names = as_names(layers)

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"layers": self._names} | super().identity()

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ValueError if a layer is unknown or has no weight matrix."""
        for name in self._names:
            self._weight(pl_module, name)

    def open(self, pl_module: LightningModule) -> None:
        """Nothing to forget: the weights say everything."""

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Nothing to take in."""

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """The drift of every layer."""
        weights = {name: self._weight(pl_module, name) for name in self._names}
        for name, weight in weights.items():
            if not weight.isfinite().all():
                raise ValueError(
                    f"Expected a finite weight in layer {name!r}, found NaN or infinity; lower the learning rate."
                )
        return {f"{name}/drift": orthogonality_drift(weight) for name, weight in weights.items()}

    def _weight(self, pl_module: LightningModule, name: str) -> Tensor:
        layer = find_module(pl_module, name)
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim < 2:
            raise ValueError(
                f"Expected layer {name!r} with a weight matrix, got {type(layer).__name__}; "
                "name a linear or convolutional layer."
            )
        matrix = weight.detach().flatten(1)
        return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
