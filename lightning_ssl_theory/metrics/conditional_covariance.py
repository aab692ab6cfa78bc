r"""Criterion C1 of boosted pretext learning: what features still tell of the pretext target once y is known.

.. math:: \mathrm{Cov}[f, z \mid y]

Downstream numbers y are conditioned on by linear residuals: the covariance of f - E*[f|y] and z - E*[z|y], with E* the
best linear reader with an intercept; for Gaussian variables that is the covariance given any y. Downstream classes are
conditioned on one by one, since the covariances of two classes could cancel in a mean: the norm is then the root of the
mean over classes, by their shares, of squared norms.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import (
    InputError,
    check_finite,
    check_flag,
    check_integer,
    check_shape,
    check_targets,
)
from lightning_ssl_theory.metrics.linear_readers import covariance_of_sums, residual_covariance
from lightning_ssl_theory.metrics.permutation_null import random_pairing, tail_probability
from lightning_ssl_theory.metrics.sum_metric import SumMetric
from lightning_ssl_theory.metrics.target_codes import is_classes, target_codes
from lightning_ssl_theory.moments import check_any_sample, class_sums, to_float64


class ConditionalCovarianceValues(NamedTuple):
    """How far criterion C1 is from being met."""

    frobenius_norm: Tensor
    """||Cov[f, z | y]||_F, over N."""
    normalized: Tensor
    """The same over its largest possible value, the root of E_y tr Cov[f|y] tr Cov[z|y]; in [0, 1]."""
    null: Tensor
    """Root mean square of `normalized` over all permutations of z's residuals: what chance alone gives."""
    p_value: Tensor
    """Share of permutations with at least this norm, by a scaled chi-square; see `metrics.permutation_null`."""


def conditional_covariance(
    features: Tensor, pretext: Tensor, downstream: Tensor
) -> ConditionalCovarianceValues:
    r"""Norm of the covariance of features and pretext target given the downstream target.

    .. math::
        \|C_{fz} - C_{fy} C_{yy}^+ C_{yz}\|_F \quad\text{or}\quad
        \Big(\sum_c p_c \|\mathrm{Cov}_c[f, z]\|_F^2\Big)^{1/2}

    Args:
        features: Shape (N, D), any real dtype.
        pretext: Numbers (N, K), or classes (N,), which count as one-hot rows.
        downstream: Numbers (N, M), conditioned on by linear residuals; or classes (N,), one by one.

    Returns:
        ConditionalCovarianceValues, scalars in float64. O(N (D + K + M)^2) time, for C classes O(N C (D + K)^2).

    Raises:
        InputError: If the shapes do not fit, a value is not finite, or there are no more samples than M + 1, so that
            every residual would be zero.

    References: J. Teng, W. Huang, H. He, "Can pretext-based self-supervised learning be boosted by downstream data? A
    theoretical analysis", AISTATS 2022, criterion C1.

    Example:
        >>> y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
        >>> f = torch.tensor([1.0, -1.0, 1.0, -1.0, 3.0, 1.0, 3.0, 1.0]).unsqueeze(1)  # its class, and a sign
        >>> z = torch.tensor([5.0, 5.0, 7.0, 7.0, 0.0, 0.0, 2.0, 2.0]).unsqueeze(1)  # its class, and another sign
        >>> conditional_covariance(f, z, y).frobenius_norm.item()
        0.0
        >>> conditional_covariance(f, f, y).normalized.item()
        1.0
    """
    check_shape(features, "features", "N+ D+")
    if isinstance(downstream, Tensor) and is_classes(downstream):
        check_targets(downstream, len(features), None, "downstream")
        sums = _update_classes(features, pretext, downstream, None, int(downstream.max()) + 1)
        return _compute(*sums, num_features=features.shape[1], num_conditions=0)
    sums = _update_numbers(features, pretext, downstream, None, None)
    width = downstream.shape[1]
    return _compute(*sums, num_features=features.shape[1], num_conditions=width)


class ConditionalCovariance(SumMetric):
    """The values of `conditional_covariance` over all batches and ranks.

    State: 1 + W + W^2 float64 numbers with W = D + K + M, or C (1 + W + W^2) with W = D + K for C classes.

    Args:
        num_features: D.
        num_pretext: K numbers, or classes, of the pretext target.
        num_downstream: M numbers, or C classes, of the downstream target.
        by_class: Whether the downstream target is a class.
        **kwargs: Passed on to `torchmetrics.Metric`.

    Example:
        >>> metric = ConditionalCovariance(1, 1, 1)
        >>> for x in (torch.tensor([[1.0], [-1.0]]), torch.tensor([[2.0], [-2.0]])):
        ...     metric.update(x, x, x)  # y tells all
        >>> metric.compute().frobenius_norm.item()
        0.0
    """

    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(
        self,
        num_features: int,
        num_pretext: int,
        num_downstream: int,
        *,
        by_class: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_integer(num_features, "num_features")
        check_integer(num_pretext, "num_pretext")
        check_integer(num_downstream, "num_downstream")
        check_flag(by_class, "by_class")
        self.num_features, self.num_pretext, self.num_downstream = num_features, num_pretext, num_downstream
        self.by_class = by_class
        groups = num_downstream if by_class else 1
        width = num_features + num_pretext + (0 if by_class else num_downstream)
        self._declare_sums(count=(groups,), total=(groups, width), products=(groups, width, width))

    def update(self, features: Tensor, pretext: Tensor, downstream: Tensor) -> None:
        """Add a batch.

        Args:
            features: Shape (N, D).
            pretext: Shape (N, K), or classes (N,).
            downstream: Shape (N, M), or classes (N,) with `by_class`.
        """
        check_shape(features, "features", f"N {self.num_features}")
        add = _update_classes if self.by_class else _update_numbers
        sums = add(features, pretext, downstream, self.num_pretext, self.num_downstream)
        self._add_sums(dict(zip(("count", "total", "products"), sums, strict=True)))

    def compute(self) -> ConditionalCovarianceValues:
        """The values over everything that was added.

        Returns:
            ConditionalCovarianceValues in float64.
        """
        conditions = 0 if self.by_class else self.num_downstream
        return _compute(
            self.count,
            self.total,
            self.products,
            num_features=self.num_features,
            num_conditions=conditions,
        )


_Sums = tuple[Tensor, Tensor, Tensor]  # (G,), (G, W), (G, W, W): one group, or a class each


def _update_numbers(
    features: Tensor, pretext: Tensor, downstream: Tensor, num_pretext: int | None, num_downstream: int | None
) -> _Sums:
    check_shape(features, "features", "N D")
    check_finite(features, "features")
    z = target_codes(pretext, len(features), num_pretext, "pretext")
    check_shape(downstream, "downstream", f"{len(features)} {num_downstream or 'M+'}")
    check_finite(downstream, "downstream")
    rows = torch.cat([to_float64(features), z, to_float64(downstream)], 1)
    count = rows.new_full((1,), len(rows))
    return count, rows.sum(0, keepdim=True), (rows.mT @ rows).unsqueeze(0)


def _update_classes(
    features: Tensor, pretext: Tensor, downstream: Tensor, num_pretext: int | None, num_classes: int
) -> _Sums:
    check_shape(features, "features", "N D")
    check_finite(features, "features")
    check_targets(downstream, len(features), num_classes, "downstream")
    z = target_codes(pretext, len(features), num_pretext, "pretext")
    rows = torch.cat([to_float64(features), z], 1)
    count, total = class_sums(rows, downstream, num_classes)
    labels = downstream.to(rows.device)
    members = (rows[labels == index] for index in range(num_classes))
    return count, total, torch.stack([own.mT @ own for own in members])


def _compute(
    count: Tensor, total: Tensor, products: Tensor, *, num_features: int, num_conditions: int
) -> ConditionalCovarianceValues:
    check_any_sample(count.sum())
    if num_conditions and count[0] <= num_conditions + 1:
        raise InputError(
            f"Expected more than {num_conditions + 1} samples to take residuals on `downstream` numbers from, got "
            f"{int(count[0])}; pass more samples."
        )
    given = covariance_of_sums(count, total, products)
    rank = count.new_zeros(())
    if num_conditions:
        left, rank = residual_covariance(given[0], num_conditions)
        given = left.unsqueeze(0)
    inner, outer = given[:, :num_features, :num_features], given[:, num_features:, num_features:]
    share = count / count.sum()
    squared = (share * given[:, :num_features, num_features:].square().sum((1, 2))).sum()
    traces = [torch.diagonal(part, dim1=1, dim2=2).sum(1).clamp(min=0) for part in (inner, outer)]
    largest = (share * traces[0] * traces[1]).sum()
    pairing = random_pairing(inner, outer, count - 1 - rank)
    null = pairing._replace(
        mean=(share * pairing.mean).sum(), variance=(share.square() * pairing.variance).sum()
    )
    scale = largest.where(largest > 0, 1)
    return ConditionalCovarianceValues(
        frobenius_norm=squared.sqrt(),
        normalized=(squared / scale).sqrt().clamp(max=1),
        null=(null.mean / scale).sqrt(),
        p_value=tail_probability(squared, null),
    )
