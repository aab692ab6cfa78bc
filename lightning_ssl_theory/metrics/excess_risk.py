r"""Criterion C2 of boosted pretext learning: how much of what tells y was lost on the way to the features.

.. math:: \min_{W,b} E\|y - W f - b\|^2 - \min_{W,V,b} E\|y - W f - V x - b\|^2

The paper's minimum is over all functions of the input; here it is over linear readers of the features and the inputs x
together, which needs no more than second moments, and is the paper's own for Gaussian x. Any better representation may
stand for x.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_integer, check_shape
from lightning_ssl_theory.metrics.linear_readers import (
    covariance_of_sums,
    linear_reader,
    residual_covariance,
)
from lightning_ssl_theory.metrics.permutation_null import random_pairing, tail_probability
from lightning_ssl_theory.metrics.sum_metric import SumMetric
from lightning_ssl_theory.metrics.target_codes import target_codes
from lightning_ssl_theory.moments import check_any_sample, to_float64


class ExcessRiskValues(NamedTuple):
    """How far criterion C2 is from being met."""

    gap: Tensor
    """Error of the best linear reader of the features, minus that of features and inputs; >= 0."""
    normalized: Tensor
    """The gap over the variance of y, in [0, 1]: the share of it that the features have lost."""
    risk: Tensor
    """Error of the best linear reader of the features, E||y - W* f||^2."""
    least_risk: Tensor
    """That of features and inputs together."""
    null: Tensor
    """Mean gap over all permutations of y's residuals: what inputs that tell nothing more would seem to tell."""
    p_value: Tensor
    """Share of permutations with at least this gap, by a scaled chi-square; see `metrics.permutation_null`."""


def excess_risk(features: Tensor, downstream: Tensor, inputs: Tensor) -> ExcessRiskValues:
    r"""Error of linear readers of the features beyond that of readers of the inputs too.

    .. math:: \mathrm{tr}\, C_{yy|f} - \mathrm{tr}\, C_{yy|f,x}

    Args:
        features: Shape (N, D), any real dtype.
        downstream: Numbers (N, M), or classes (N,), which count as one-hot rows.
        inputs: x, flat, shape (N, P); or another representation that tells as much.

    Returns:
        ExcessRiskValues, scalars in float64. O(N (D + P + M)^2 + (D + P)^3) time.

    Raises:
        InputError: If the shapes do not fit, a value is not finite, or there are too few samples: readers of
            D + P numbers fit D + P + 1 samples whatever they are.

    References: J. Teng, W. Huang, H. He, "Can pretext-based self-supervised learning be boosted by downstream data? A
    theoretical analysis", AISTATS 2022, criterion C2.

    Example:
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> found = excess_risk(x[:, :1], x.sum(1, keepdim=True), x)  # y is the sum, f has one of two
        >>> round(found.gap.item(), 9), round(found.normalized.item(), 9)
        (1.0, 0.5)
    """
    check_shape(features, "features", "N+ D+")
    check_shape(inputs, "inputs", f"{len(features)} P+")
    count, total, products = _update(features, downstream, inputs, None)
    return _compute(count, total, products, features.shape[1], inputs.shape[1])


class ExcessRisk(SumMetric):
    """The values of `excess_risk` over all batches and ranks.

    State: 1 + W + W^2 float64 numbers, W = D + P + M; for wide inputs pass a projection of them.

    Args:
        num_features: D.
        num_downstream: M numbers, or classes, of the downstream target.
        num_inputs: P.
        **kwargs: Passed on to `torchmetrics.Metric`.

    Example:
        >>> metric = ExcessRisk(1, 1, 1)
        >>> for x in (torch.tensor([[1.0], [-1.0]]), torch.tensor([[2.0], [-2.0]])):
        ...     metric.update(torch.zeros_like(x), x, x)  # the features know nothing
        >>> metric.compute().normalized.item()
        1.0
    """

    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(self, num_features: int, num_downstream: int, num_inputs: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_integer(num_features, "num_features")
        check_integer(num_downstream, "num_downstream")
        check_integer(num_inputs, "num_inputs")
        self.num_features, self.num_downstream, self.num_inputs = num_features, num_downstream, num_inputs
        width = num_features + num_inputs + num_downstream
        self._declare_sums(count=(), total=(width,), products=(width, width))

    def update(self, features: Tensor, downstream: Tensor, inputs: Tensor) -> None:
        """Add a batch.

        Args:
            features: Shape (N, D).
            downstream: Shape (N, M), or classes (N,).
            inputs: Shape (N, P).
        """
        check_shape(features, "features", f"N {self.num_features}")
        check_shape(inputs, "inputs", f"{len(features)} {self.num_inputs}")
        sums = _update(features, downstream, inputs, self.num_downstream)
        self._add_sums(dict(zip(("count", "total", "products"), sums, strict=True)))

    def compute(self) -> ExcessRiskValues:
        """The values over everything that was added.

        Returns:
            ExcessRiskValues in float64.
        """
        return _compute(self.count, self.total, self.products, self.num_features, self.num_inputs)


def _update(
    features: Tensor, downstream: Tensor, inputs: Tensor, num_downstream: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    check_finite(features, "features")
    check_finite(inputs, "inputs")
    y = target_codes(downstream, len(features), num_downstream, "downstream")
    rows = torch.cat([to_float64(features), to_float64(inputs), y], 1)
    return rows.new_tensor(len(rows)), rows.sum(0), rows.mT @ rows


def _compute(
    count: Tensor, total: Tensor, products: Tensor, num_features: int, num_inputs: int
) -> ExcessRiskValues:
    check_any_sample(count)
    covariance = covariance_of_sums(count, total, products)
    num_both = num_features + num_inputs
    features_last = covariance.roll((-num_features, -num_features), (0, 1))  # inputs, y, features
    given, rank = residual_covariance(features_last, num_features)
    left = linear_reader(given[:num_inputs, :num_inputs], given[:num_inputs, num_inputs:])
    if count - 1 <= rank + left.rank:
        raise InputError(
            f"Expected more samples than the {int(rank + left.rank)} independent numbers of `features` and `inputs` "
            f"and one, got {int(count)}; pass more samples, or `inputs` of fewer numbers."
        )
    y_left = given[num_inputs:, num_inputs:]
    gap = (given[:num_inputs, num_inputs:] * left.weights).sum().clamp(min=0)
    risk, variance = y_left.trace(), covariance[num_both:, num_both:].trace()
    # the gap is ||A^T E||^2 / N^2 with A an orthonormal basis, times N, of what the inputs add
    basis = torch.eye(int(left.rank)).to(given) if left.rank else given.new_zeros(1, 1)
    null = random_pairing(basis, y_left, count - 1 - rank)
    return ExcessRiskValues(
        gap=gap,
        normalized=(gap / variance.where(variance > 0, 1)).clamp(max=1),
        risk=risk,
        least_risk=(risk - gap).clamp(min=0),
        null=null.mean,
        p_value=tail_probability(gap, null),
    )
