r"""What a squared norm comes to when the residuals that it is made of are paired at random.

For centred residuals A (N, D) and B (N, K), :math:`T = \|A^\top P B\|_F^2 / N^2` has, over all N! permutations P, the
mean

.. math:: \frac{\mathrm{tr}\, C_A\, \mathrm{tr}\, C_B}{N - 1}, \quad C_A = A^\top A / N,\; C_B = B^\top B / N

exactly: no permutation is drawn, so there is no number of them and no seed, and the null is a function of sums.
Residuals of a regression on R numbers are too short by that; they are first stretched by
:math:`\sqrt{(N - 1) / (N - 1 - R)}`, so that the mean has n = N - 1 - R for N - 1. For the spread, permutations are
taken to spread T as all rotations of the n directions of the residuals do, of which fourth moments are known.

References: D. Freedman, D. Lane, "A nonstochastic interpretation of reported significance levels", 1983 (permuted
residuals); B. Collins, P. Sniady, "Integration with respect to the Haar measure", 2006 (moments of rotations).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class RandomPairing(NamedTuple):
    """Mean and variance of T over all pairings, of any shape."""

    mean: Tensor
    variance: Tensor


def random_pairing(first: Tensor, second: Tensor, directions: Tensor) -> RandomPairing:
    r"""Moments of T.

    Args:
        first: C_A, or several, shape (…, D, D), float64.
        second: C_B, likewise, (…, K, K).
        directions: n, shape (…), float64; none below 1 counts.

    Returns:
        RandomPairing of shape (…); zero where n < 1. O(D^2 + K^2) time each.

    Example:
        >>> one = torch.eye(1, dtype=torch.float64)
        >>> random_pairing(one, one, torch.tensor(4.0, dtype=torch.float64)).mean.item()  # (a^T b)^2 / (|a| |b|)^2
        0.25
    """
    trace_a, trace_b = (torch.diagonal(one, dim1=-2, dim2=-1).sum(-1) for one in (first, second))
    same_a, same_b = first.square().sum((-2, -1)), second.square().sum((-2, -1))
    other_a, other_b = trace_a.square() - same_a, trace_b.square() - same_b
    n = directions.clamp(min=1)
    mean = trace_a * trace_b / n
    # E q_11^4 = 3 / (n (n+2)), E q_11^2 q_12^2 = 1 / (n (n+2)), E q_11^2 q_22^2 = (n+1) / (n (n-1) (n+2))
    near = (3 * same_a * same_b + same_a * other_b + other_a * same_b) / (n * (n + 2))
    far = other_a * other_b * (n + 1) / (n * (n - 1).clamp(min=1) * (n + 2))
    variance = (near + far - mean.square()).clamp(min=0)
    has_any = directions >= 1
    return RandomPairing(mean * has_any, variance * has_any)


def tail_probability(value: Tensor, null: RandomPairing) -> Tensor:
    r"""Share of pairings with a T of at least `value`, by the scaled chi-square of the same mean and variance.

    Args:
        value: T, a scalar.
        null: Its mean and variance, scalars.

    Returns:
        In [0, 1], float64; where T does not vary, 1 unless the value lies above it by more than rounding.

    Example:
        >>> null = RandomPairing(torch.tensor(1.0).double(), torch.tensor(2.0).double())  # a chi-square of one degree
        >>> round(tail_probability(torch.tensor(3.841459).double(), null).item(), 4)
        0.05
    """
    varies = null.variance > 1e-18 * null.mean.square()
    mean, variance = null.mean.where(varies, 1), null.variance.where(varies, 1)
    share = torch.special.gammaincc(mean.square() / variance, value.clamp(min=0) * mean / variance)
    return share.where(varies, (value <= null.mean * (1 + 1e-9)).to(share))
