r"""How many directions features use: effective rank, RankMe and standard deviations, from summed moments.

Two definitions in use, under two names:

- effective rank: exponential of the entropy of the eigenvalue shares of the *centred* covariance;
- RankMe: exponential of the entropy of the singular-value shares of the *uncentred* features.

Where we depart from the paper of RankMe: it adds 1e-7 to every share, which makes a share of zero count for
1.6e-6 nats (100 equal directions of 128 read 100.008, a point in 8192 dimensions 1.013). Here 1e-7 stands in
the logarithm only, and they read 99.999 and 1.000.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_finite, check_shape
from lightning_ssl_theory.metrics.dimension_alignment import alignment_of_covariance
from lightning_ssl_theory.metrics.sum_metric import SumMetric, check_size
from lightning_ssl_theory.moments import EPS, check_any_sample, effective_rank, to_float64, variance_from_sums

_RANKME_EPSILON = 1e-7


class EffectiveRankValues(NamedTuple):
    """Ranks and standard deviations of features in D dimensions."""

    effective_rank: Tensor
    """Of the centred covariance; from 1 (constant, or one direction) to min(N - 1, D)."""
    rankme: Tensor
    """Of the uncentred features; from 1 to min(N, D)."""
    std: Tensor
    """Standard deviation of each dimension (D,), 1/N."""
    min_std: Tensor
    """Smallest of them."""
    mean_std: Tensor
    """Their mean."""
    dimension_alignment: Tensor
    """Mean absolute correlation between dimensions; 1 is collapsed. See `dimension_alignment`."""


class _Sums(NamedTuple):
    num_samples: Tensor  # ()
    feature_sum: Tensor  # (D,)
    outer_sum: Tensor  # (D, D)


def feature_effective_rank(features: Tensor) -> EffectiveRankValues:
    r"""Effective rank, RankMe and standard deviations of features.

    .. math::
        \exp H(\lambda / \textstyle\sum \lambda), \quad
        \exp\Big( -\sum_k p_k \log(p_k + 10^{-7}) \Big), \; p_k = \sigma_k / \sum_j \sigma_j,

    with :math:`\lambda` the eigenvalues of the covariance and :math:`\sigma` the singular values of the
    feature matrix. Both come from float64 sums; eigenvalues below max(N, D) eps times the largest second
    moment are rounding, and count as zero. So constant features read 1.

    Args:
        features: Shape (N, D), N >= 1, any real dtype.

    Returns:
        EffectiveRankValues in float64. O(N D^2 + D^3) time, O(N D + D^2) memory.

    References:
        O. Roy, M. Vetterli, "The effective rank", 2007; Q. Garrido, R. Balestriero, L. Najman, Y. LeCun,
        "RankMe", 2023, eq. 1.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> values = feature_effective_rank(x)
        >>> round(float(values.effective_rank), 4), round(float(values.rankme), 4)
        (2.0, 2.0)
    """
    return _compute(_update(features))


class EffectiveRank(SumMetric):
    """Effective rank and RankMe of features over all batches and ranks; see `feature_effective_rank`.

    State: D^2 + D + 1 float64 numbers, which is also what crosses ranks (2 MB at D = 512, 34 MB at D = 2048).

    Args:
        num_features: Width D of the features.
        **kwargs: Passed on to `torchmetrics.Metric`.

    Example:
        >>> metric = EffectiveRank(num_features=2)
        >>> metric.update(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        >>> metric.update(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
        >>> round(float(metric.compute().effective_rank), 4)
        2.0
    """

    num_samples: Tensor
    feature_sum: Tensor
    outer_sum: Tensor

    def __init__(self, num_features: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_size(num_features, "num_features")
        self.num_features = num_features
        self._declare_sums(
            num_samples=(), feature_sum=(num_features,), outer_sum=(num_features, num_features)
        )

    def update(self, features: Tensor) -> None:
        """Add a batch.

        Args:
            features: Shape (N, D).
        """
        check_shape(features, "features", f"N {self.num_features}")
        self._add_sums(_update(features)._asdict())

    def compute(self) -> EffectiveRankValues:
        """The values over everything that was added.

        Returns:
            EffectiveRankValues in float64.
        """
        return _compute(_Sums(self.num_samples, self.feature_sum, self.outer_sum))


def _update(features: Tensor) -> _Sums:
    check_shape(features, "features", "N D")
    check_finite(features, "features")
    exact = to_float64(features)
    return _Sums(exact.new_tensor(len(exact)), exact.sum(0), exact.mT @ exact)


def _compute(sums: _Sums) -> EffectiveRankValues:
    check_any_sample(sums.num_samples)
    mean = sums.feature_sum / sums.num_samples
    second_moment = sums.outer_sum / sums.num_samples
    moments = torch.linalg.eigvalsh(second_moment)
    covariance = second_moment - torch.outer(mean, mean)
    variances = torch.linalg.eigvalsh(covariance)
    rounding = EPS * sums.num_samples.clamp(min=len(mean)) * moments[-1]
    moments, variances = (x.where(x > rounding, 0) for x in (moments, variances))
    std = variance_from_sums(sums.num_samples, sums.feature_sum, sums.outer_sum.diagonal()).sqrt()
    return EffectiveRankValues(
        effective_rank=effective_rank(variances),
        rankme=_rankme(moments.sqrt()),
        std=std,
        min_std=std.min(),
        mean_std=std.mean(),
        dimension_alignment=alignment_of_covariance(
            covariance, EPS * sums.num_samples * second_moment.diagonal()
        ),
    )


def _rankme(singular_values: Tensor) -> Tensor:
    total = singular_values.sum()
    shares = singular_values / total.where(total > 0, 1)
    return (-shares * (shares + _RANKME_EPSILON).log()).sum().exp()
