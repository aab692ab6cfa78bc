"""Errors of estimates from few random probes, each the half-width of an interval that covers 95 % of the draws.

They are standard errors times a quantile of Student's t, so that they cover also for few probes, where twice the
standard error would cover less.
"""

import math

import torch
from scipy.special import stdtrit
from torch import Tensor


def widening(num_values: int, coverage: float = 0.95) -> float:
    """What the standard error of a mean is multiplied by.

    Args:
        num_values: m.
        coverage: Share of normal draws that the interval shall hold.

    Returns:
        A quantile, by default that of 97.5 %, of Student's t with m - 1 degrees of freedom; NaN for one value.

    Example:
        >>> round(widening(4), 3), round(widening(1000), 3)
        (3.182, 1.962)
    """
    return float(stdtrit(num_values - 1, (1 + coverage) / 2)) if num_values > 1 else math.nan


def mean_error(values: Tensor, *, coverage: float = 0.95) -> Tensor:
    """Half-width for the mean of one value a probe.

    It covers a share of normal draws, but less of skewed ones: for 4 squares of a normal variable, the worst that a
    quadratic form does, 82 % instead of 95 and 90 % instead of 99.

    Args:
        values: (m,).
        coverage: That share.

    Returns:
        A scalar; NaN for a single probe.
    """
    if len(values) < 2:
        return values.new_full((), math.nan)
    return widening(len(values), coverage) * values.std() / math.sqrt(len(values))


def ratio_error(numerators: Tensor, denominators: Tensor) -> Tensor:
    """Half-width for the ratio of two means, one value a probe each, to first order; NaN for a single probe."""
    tiny = torch.finfo(denominators.dtype).tiny
    denominator = denominators.mean().clamp(min=tiny)
    return mean_error((numerators - numerators.mean() / denominator * denominators) / denominator)


def jackknife_error(left_out: Tensor) -> Tensor:
    """Half-width for an estimate from its values with each of n parts left out, (n,); NaN for fewer than two."""
    num_parts = len(left_out)
    if num_parts < 2:
        return left_out.new_full((), math.nan)
    variance = (num_parts - 1) * left_out.var(correction=0)
    return widening(num_parts) * variance.sqrt()
