"""Results by layer, beside the reasons why other layers have none."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.tracing.layer_names import LayerChoice, exact_names

V = TypeVar("V")

NOT_FINITE = "has a gradient that is not finite"


class CoveredLayers(dict[str, V]):
    """What was found of each layer, by its path.

    Args:
        found: By path.
        left_out: The reasons, by path.

    Attributes:
        left_out: Why other layers that were asked for are not among the keys, by path; equal on every rank.
    """

    def __init__(self, found: Mapping[str, V], left_out: Mapping[str, str]) -> None:
        super().__init__(found)
        self.left_out = dict(left_out)


class NotFiniteGradientsError(InputError):
    """A gradient of the output at a layer is not finite.

    Args:
        name: The layer's path.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Expected finite gradients of the output at layer {name!r}, found NaN or infinity; "
            "look for a square root or a division at zero after it, or leave it out of `layers`."
        )


def not_finite_layers(
    values: Mapping[str, Sequence[Tensor]], layers: Sequence[LayerChoice] | LayerChoice | None
) -> dict[str, str]:
    """The layers to leave out because something of their gradients is not finite.

    Args:
        values: What was computed of each layer's gradients, equal on every rank.
        layers: What was asked for.

    Returns:
        The reason, by path. The host waits for the device once.

    Raises:
        NotFiniteGradientsError: If such a layer was asked for by its path, or no other is left.
    """
    flags = [torch.stack([value.isfinite().all() for value in own]).all() for own in values.values()]
    found = [
        name for name, is_finite in zip(values, torch.stack(flags).tolist(), strict=True) if not is_finite
    ]
    asked = exact_names(layers)
    for name in found:
        if name in asked or len(found) == len(values):
            raise NotFiniteGradientsError(name)
    return dict.fromkeys(found, NOT_FINITE)
