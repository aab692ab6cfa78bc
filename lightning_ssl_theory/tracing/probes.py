"""Random probes of the output space, the same on every rank for the same generator."""

import torch
from torch import Tensor


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
    if num_probes < 1:
        raise ValueError(
            f"Expected `num_probes` of at least 1, got {num_probes}; use None for the exact operator."
        )
    return torch.randint(0, 2, (num_probes, num_outputs), generator=generator).float() * 2 - 1
