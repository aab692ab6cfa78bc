"""What every flow starts from, checked once: outputs q0, eigenvalues of C, times; all in float64."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_shape

ON_SPHERE = 1e-14
"""1 - s^2 below it is rounding of a singular value s = 1 of float64 outputs."""

_NORM_TOLERANCE = 1e-5  # of weights trained in float32
_NUM_ROUNDINGS = 64


class Problem(NamedTuple):
    """An initial value problem in the eigenbasis of C, in its own unit of time."""

    q0: Tensor
    """Outputs at t = 0, shape (*, z, d), float64, spectral norm at most 1."""
    eigenvalues: Tensor
    """Of C, shape (d,), float64."""
    times: Tensor
    """Shape (T,), float64, at least 0, in any order."""


def checked_problem(q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Problem:
    r"""The problem in float64, on the CPU, in a unit of time in which the largest eigenvalue is about 1.

    Only products of times and eigenvalues matter.

    Singular values that are 1 up to rounding of the dtype given, or exceed 1 by less than 1e-5, become 1: the flows
    stay on the unit sphere for ever, but leave it where they start beside it, and may blow up outside.

    Args:
        q0: Shape (\*, z, d).
        eigenvalues: Shape (d,).
        times: Shape (T,).

    Returns:
        The problem.

    Raises:
        InputError: If a shape does not fit, a value is not finite, a time is negative, or the spectral norm of
            some q0 exceeds 1.
    """
    start, spectrum = checked_start(q0, eigenvalues)
    # a power of two, so that nothing is rounded
    unit = math.ldexp(1.0, min(max(math.frexp(float(spectrum.abs().max()))[1], -1000), 1000))
    return Problem(start, spectrum / unit, (checked_times(times) * unit).clamp(max=1e290))


def checked_start(q0: Tensor, eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    r"""Outputs and eigenvalues as in `checked_problem`.

    Args:
        q0: Shape (\*, z, d).
        eigenvalues: Shape (d,).

    Returns:
        Both in float64.

    Raises:
        InputError: If one is no tensor, or as in `checked_problem`.
    """
    check_shape(eigenvalues, "eigenvalues", "d+")
    check_finite(eigenvalues, "eigenvalues")
    width = len(eigenvalues)
    check_shape(q0, "q0", "* z d")
    if q0.ndim < 2 or q0.shape[-1] != width or 0 in q0.shape:
        raise InputError(
            f"Expected `q0` of shape (*, z, {width}) for {width} eigenvalues, got {tuple(q0.shape)}; "
            "pass W_2^T W_1 V, one row an output."
        )
    check_finite(q0, "q0")
    start = q0.detach().cpu().double()
    largest = float(torch.linalg.matrix_norm(start, ord=2).max())
    if largest > 1 + _NORM_TOLERANCE:
        raise InputError(
            f"Expected `q0` of spectral norm at most 1, got {largest:.6g}; "
            "pass W_2^T W_1 V of weights with orthonormal columns."
        )
    return _rounded_to_the_sphere(start, q0.dtype), eigenvalues.detach().cpu().double()


def checked_times(times: Tensor) -> Tensor:
    """Times in float64.

    Args:
        times: Shape (T,).

    Returns:
        The same, float64, on the CPU.

    Raises:
        InputError: If it is no vector, or a time is negative or not finite.
    """
    check_shape(times, "times", "T")
    check_finite(times, "times")
    if bool((times < 0).any()):
        raise InputError(
            f"Expected `times` >= 0, got {float(times.min()):g}; a flow starts at t = 0, "
            "and t is the sum of the learning rates."
        )
    return times.detach().cpu().double()


def frame_of(q0: Tensor) -> Tensor:
    r"""Outputs with the numbers that complete their rows to orthonormal ones.

    .. math:: p = (q, k), \qquad k k^\top = I - q q^\top

    Args:
        q0: Shape (\*, z, d), float64, as in `checked_problem`.

    Returns:
        p, shape (\*, z, d + z). One column of k for each singular value of q0, zero where that is 1.

    Example:
        >>> frame_of(torch.tensor([[0.6, 0.0]], dtype=torch.float64)).tolist()
        [[0.6, 0.0, 0.8]]
    """
    squares, vectors = torch.linalg.eigh(q0 @ q0.mT)
    rest = (1 - squares).clamp(min=0)
    return torch.cat([q0, vectors * rest.where(rest > ON_SPHERE, 0).sqrt().unsqueeze(-2)], dim=-1)


def orthonormalized(frame: Tensor) -> Tensor:
    r"""Rows that are orthonormal up to a small error, without it: the nearest ones that are.

    Args:
        frame: p, shape (\*, z, m), |p p^T - I| below 1e-8.

    Returns:
        (3 I - p p^T) p / 2, of the same shape; zero columns stay zero.
    """
    return frame - (frame @ frame.mT @ frame - frame) / 2


# By a factor from the left, so that columns of zeros stay so.
def _rounded_to_the_sphere(q: Tensor, given: torch.dtype) -> Tensor:
    tolerance = min(_NUM_ROUNDINGS * torch.finfo(given).eps, _NORM_TOLERANCE)
    left, values, _ = torch.linalg.svd(q, full_matrices=False)
    change = torch.where(values > 1 - tolerance, 1 / values - 1, 0)
    return q + (left * change.unsqueeze(-2)) @ left.mT @ q
