"""Random vectors of weights and of outputs, the same on every rank and for every chunk of samples."""

from functools import cached_property

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_instance, check_integer
from lightning_ssl_theory.tracing.layer_kinds import LayerKind


class WeightDirections:
    """r random vectors phi = left * right of signs, E[phi phi^T] = I, held as their two factors only.

    Args:
        kind: The layer as a linear map of its weight.
        num_directions: r.
        seed: Of the draw.
        like: A tensor of the wanted type and device.

    Attributes:
        num_directions: r.
    """

    def __init__(self, kind: LayerKind, num_directions: int, *, seed: int, like: Tensor) -> None:
        self._shape, self.num_directions = kind.grouped_shape, num_directions
        self._seed, self._like = seed, like

    @cached_property
    def left(self) -> Tensor:
        """(r, G, O): with `right`, the factors of r vectors whose signs are pairwise independent."""
        return self._signs(0, self.num_directions, *self._shape[:2])

    @cached_property
    def right(self) -> Tensor:
        """(r, G, F)."""
        groups, _, fan_in = self._shape
        return self._signs(1, self.num_directions, groups, fan_in)

    def _signs(self, stream: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed + stream)
        num_signs = torch.Size(shape).numel()
        octets = torch.randint(0, 256, (-(-num_signs // 8), 1), generator=generator, dtype=torch.uint8)
        bits = octets.to(self._like.device).bitwise_right_shift(
            torch.arange(8, dtype=torch.uint8, device=self._like.device)
        )
        return (bits.bitwise_and(1).flatten()[:num_signs].to(self._like.dtype) * 2 - 1).reshape(shape)


def rademacher_probes(
    num_probes: int, num_outputs: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Vectors of independent signs, E[u u^T] = I.

    Args:
        num_probes: m.
        num_outputs: n_L.
        generator: Source of randomness on the CPU.

    Returns:
        (m, n_L), float32, on the CPU.

    Raises:
        ValueError: If `num_probes` is below 1.
    """
    check_integer(num_probes, "num_probes", advice="use None for the exact operator")
    check_integer(num_outputs, "num_outputs")
    check_instance(generator, "generator", torch.Generator, or_none=True)
    return torch.randint(0, 2, (num_probes, num_outputs), generator=generator).float() * 2 - 1
