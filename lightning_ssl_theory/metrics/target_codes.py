"""Targets as numbers: classes become one-hot rows."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lightning_ssl_theory.checks import check_finite, check_shape, check_targets
from lightning_ssl_theory.moments import to_float64


def is_classes(targets: Tensor) -> bool:
    """Whether targets are class indices, a vector of integers."""
    return targets.ndim == 1 and not targets.is_floating_point() and targets.dtype != torch.bool


def target_codes(targets: Tensor, num_rows: int, width: int | None, name: str) -> Tensor:
    """Targets in float64, one row a sample.

    Args:
        targets: Numbers (N, K), or classes (N,) below K.
        num_rows: N.
        width: K; None takes what the targets have.
        name: What the caller calls them.

    Returns:
        Shape (N, K), float64, on the device of the targets where that has float64.

    Raises:
        InputError: If they are neither, or not finite.

    Example:
        >>> target_codes(torch.tensor([1, 0]), 2, 2, "pretext").tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    if isinstance(targets, Tensor) and is_classes(targets):
        check_targets(targets, num_rows, width, name)
        return to_float64(one_hot(targets.long(), width or -1))
    check_shape(targets, name, f"{num_rows} {'K+' if width is None else width}")
    check_finite(targets, name)
    return to_float64(targets)
