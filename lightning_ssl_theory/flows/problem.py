"""What every flow starts from, checked once: outputs q0, eigenvalues of C, times; all in float64."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_finite, check_shape

_NORM_TOLERANCE = 1e-5  # of weights trained in float32


class Problem(NamedTuple):
    """An initial value problem in the eigenbasis of C."""

    q0: Tensor
    """Outputs at t = 0, shape (*, z, d), float64, spectral norm at most 1."""
    eigenvalues: Tensor
    """Of C, shape (d,), float64."""
    times: Tensor
    """Shape (T,), float64, at least 0, in any order."""


def checked_problem(q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Problem:
    r"""The problem in float64, on the CPU.

    Outputs whose norm exceeds 1 by rounding are scaled to norm 1: outside the unit ball the flows may blow up.

    Args:
        q0: Shape (\*, z, d).
        eigenvalues: Shape (d,).
        times: Shape (T,).

    Returns:
        The problem.

    Raises:
        TypeError: If one is no tensor.
        ValueError: If a shape does not fit, a value is not finite, a time is negative, or the spectral norm of
            some q0 exceeds 1.
    """
    start, spectrum = checked_start(q0, eigenvalues)
    return Problem(start, spectrum, checked_times(times))


def checked_start(q0: Tensor, eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    r"""Outputs and eigenvalues as in `checked_problem`.

    Args:
        q0: Shape (\*, z, d).
        eigenvalues: Shape (d,).

    Returns:
        Both in float64.

    Raises:
        TypeError: If one is no tensor.
        ValueError: As in `checked_problem`.
    """
    check_shape(eigenvalues, "eigenvalues", "d")
    check_finite(eigenvalues, "eigenvalues")
    width = len(eigenvalues)
    if not isinstance(q0, Tensor):
        raise TypeError(f"Expected `q0` to be a torch.Tensor, got {type(q0).__name__}; use torch.as_tensor.")
    if q0.ndim < 2 or q0.shape[-1] != width or 0 in q0.shape:
        raise ValueError(
            f"Expected `q0` of shape (*, z, {width}) for {width} eigenvalues, got {tuple(q0.shape)}; "
            "pass W_2^T W_1 V, one row an output."
        )
    check_finite(q0, "q0")
    start = q0.detach().cpu().double()
    norms = torch.linalg.matrix_norm(start, ord=2, keepdim=True)
    largest = float(norms.max())
    if largest > 1 + _NORM_TOLERANCE:
        raise ValueError(
            f"Expected `q0` of spectral norm at most 1, got {largest:.6g}; "
            "pass W_2^T W_1 V of weights with orthonormal columns."
        )
    return start / norms.clamp(min=1), eigenvalues.detach().cpu().double()


def checked_times(times: Tensor) -> Tensor:
    """Times in float64.

    Args:
        times: Shape (T,).

    Returns:
        The same, float64, on the CPU.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it is no vector, or a time is negative or not finite.
    """
    check_shape(times, "times", "T")
    check_finite(times, "times")
    if bool((times < 0).any()):
        raise ValueError(
            f"Expected `times` >= 0, got {float(times.min()):g}; a flow starts at t = 0, "
            "and t is the sum of the learning rates."
        )
    return times.detach().cpu().double()
