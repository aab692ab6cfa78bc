r"""How many directions features use: effective rank, RankMe and standard deviations.

Two definitions in use, under two names:

- effective rank: exponential of the entropy of the eigenvalue shares of the *centred* covariance;
- RankMe: exponential of the entropy of the singular-value shares of the *uncentred* features.

Both need eigenvalues only, and N samples in D dimensions have min(N, D) of them: below D samples the rows are kept and
their N x N products decide; from D on the D x D scatter around the mean does.

Where we depart from the paper of RankMe: it adds 1e-7 to every share, which makes a share of zero count for
1.6e-6 nats (100 equal directions of 128 read 100.008, a point in 8192 dimensions 1.013). Here 1e-7 stands in
the logarithm only, and they read 99.999 and 1.000.
"""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from lightning_ssl_theory.checks import check_finite, check_integer, check_shape
from lightning_ssl_theory.distributed import is_distributed, rank, world_size
from lightning_ssl_theory.metrics.dimension_alignment import alignment_of_covariance, alignment_of_rows
from lightning_ssl_theory.metrics.sum_metric import SumMetric, nothing_to_exchange
from lightning_ssl_theory.moments import (
    EPS,
    check_any_sample,
    device_with_float64,
    effective_rank,
    to_float64,
)

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


class _Parts(NamedTuple):
    """Samples in parts, each around its own mean, so that no large mean cancels."""

    counts: Tensor  # (B,), 1 for a sample that is kept as it is
    means: Tensor  # (B, D)
    scatters: Tensor  # (S, D, D), sums of (x - mean)(x - mean)^T within the parts; S = 0 where all are rows


def feature_effective_rank(features: Tensor) -> EffectiveRankValues:
    r"""Effective rank, RankMe and standard deviations of features.

    .. math::
        \exp H(\lambda / \textstyle\sum \lambda), \quad
        \exp\Big( -\sum_k p_k \log(p_k + 10^{-7}) \Big), \; p_k = \sigma_k / \sum_j \sigma_j,

    with :math:`\lambda` the eigenvalues of the covariance and :math:`\sigma` the singular values of the
    feature matrix, in float64. Eigenvalues below max(N, D) eps times the largest are rounding, and so are variances
    below (N eps)^2 times the largest second moment, what centring may leave of a constant: both count as zero. So
    constant features read 1. A large mean costs the centred values nothing; RankMe loses singular values below about
    sqrt(max(N, D) eps) of the largest, 1e-6 at D = 4096.

    Args:
        features: Shape (N, D), N >= 1, any real dtype.

    Returns:
        EffectiveRankValues in float64. O(N D^2 + min(N, D)^3) time, of which N D^2 is the dimension alignment's.
        Memory O(N D), and blocks of 32 MB, for N < D; O(N D + D^2) otherwise.

    References:
        O. Roy, M. Vetterli, "The effective rank", 2007; Q. Garrido, R. Balestriero, L. Najman, Y. LeCun,
        "RankMe", 2023, eq. 1.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> values = feature_effective_rank(x)
        >>> round(float(values.effective_rank), 4), round(float(values.rankme), 4)
        (2.0, 2.0)
    """
    check_shape(features, "features", "N+ D+")
    check_finite(features, "features")
    return _compute(_rows(to_float64(features)))


class EffectiveRank(SumMetric):
    """Effective rank and RankMe of features over all batches and ranks; see `feature_effective_rank`.

    State: the rows, N D float64 numbers, while all ranks together hold fewer than D; from then on D^2 + D + 1 numbers.
    Both ways give the same values. In a look of a diagnostic the rows of all ranks, or the D^2 + D + 1 numbers (134 MB
    at D = 4096), are summed over ranks. Where torchmetrics synchronises by itself, a rank receives as much from each
    of the W ranks: the rows of the one that has most of them, or those numbers.

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

    counts: list[Tensor]
    means: list[Tensor]
    scatters: list[Tensor]

    def __init__(self, num_features: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_integer(num_features, "num_features")
        self.num_features = num_features
        for name in _Parts._fields:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, features: Tensor) -> None:
        """Add a batch.

        Args:
            features: Shape (N, D).
        """
        check_shape(features, "features", f"N {self.num_features}")
        check_finite(features, "features")
        added = _rows(to_float64(features).clone().to(device_with_float64(self.device)))
        self.counts.append(added.counts)
        self.means.append(added.means)
        if self.scatters or sum(map(len, self.means)) >= self.num_features:
            self._keep(_merged(self._parts()))

    def compute(self) -> EffectiveRankValues:
        """The values over everything that was added.

        Returns:
            EffectiveRankValues in float64.
        """
        return _compute(self._parts())

    def exchange(self) -> Generator[Tensor, Tensor, None]:
        """Replace the state by that of all ranks; see `SumMetric.exchange`.

        Yields:
            How many rows each rank holds; then all rows, or the sums of the means and then of the scatters.
        """
        if not is_distributed():
            return
        own, parts = torch.zeros(world_size() + 1, dtype=torch.float64), self._parts()
        own[rank()], own[-1] = len(parts.means), len(parts.scatters)
        *num_rows, num_sums = map(int, (yield own.to(parts.means.device)).tolist())
        if num_sums or sum(num_rows) >= self.num_features:
            (count,), (mean,), (scatter,) = _merged(parts)
            sums = yield torch.cat([count[None], count * mean])
            total, common = sums[0], sums[1:] / sums[0]
            offset = (mean - common) * count.sqrt()
            scatter = yield torch.addr(scatter, offset, offset)
            self._keep(_Parts(total[None], common[None], scatter[None]))
        else:
            rows = parts.means.new_zeros(sum(num_rows), self.num_features)
            first = sum(num_rows[: rank()])
            rows[first : first + len(parts.means)] = parts.means
            self._keep(_rows((yield rows)))
        self.distributed_available_fn = nothing_to_exchange

    def _sync_dist(
        self, dist_sync_fn: Callable = gather_all_tensors, process_group: Any | None = None
    ) -> None:
        # All ranks keep rows, or all sum up, so that they call the same collectives with parts of one shape.
        own = torch.tensor([sum(map(len, self.means)), len(self.scatters)], device=self.device)
        everyone = dist_sync_fn(own, group=process_group or self.process_group)
        num_rows, num_sums = torch.stack(everyone).sum(0).tolist()
        is_summed = num_sums > 0 or num_rows >= self.num_features
        self._keep(_merged(self._parts()) if is_summed else self._parts())
        super()._sync_dist(dist_sync_fn, process_group)

    def _parts(self) -> _Parts:
        width = self.num_features
        shapes = ((0,), (0, width), (0, width, width))
        states = (getattr(self, name) for name in _Parts._fields)
        return _Parts(*(self._joined(state, shape) for state, shape in zip(states, shapes, strict=True)))

    def _joined(self, state: list[Tensor] | Tensor, empty: tuple[int, ...]) -> Tensor:
        # a list of this rank's parts, possibly moved by `compute_on_cpu`, or what the ranks' parts were joined to
        device = device_with_float64(self.device)
        parts = [part.to(device) for part in ([state] if isinstance(state, Tensor) else state) if len(part)]
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts) if parts else torch.zeros(empty, dtype=torch.float64, device=device)

    def _keep(self, parts: _Parts) -> None:
        self.counts, self.means = [parts.counts], [parts.means]
        self.scatters = [parts.scatters] if len(parts.scatters) else []


def _rows(features: Tensor) -> _Parts:
    width = features.shape[1]
    return _Parts(features.new_ones(len(features)), features, features.new_zeros(0, width, width))


def _merged(parts: _Parts) -> _Parts:
    # As one part. Around the common mean the means' own scatter adds to the scatter within the parts.
    count = parts.counts.sum()
    mean = parts.counts @ parts.means / count.clamp(min=1)
    offsets = (parts.means - mean) * parts.counts.sqrt()[:, None]
    scatter = torch.addmm(parts.scatters.sum(0), offsets.mT, offsets)
    return _Parts(count[None], mean[None], scatter[None])


def _compute(parts: _Parts) -> EffectiveRankValues:
    check_any_sample(parts.counts.sum())
    if not len(parts.scatters) and len(parts.means) < parts.means.shape[1]:
        return _from_rows(parts.means)
    (count,), (mean,), (scatter,) = _merged(parts)
    return _from_covariance(int(count), mean, scatter / count)


def _from_rows(rows: Tensor) -> EffectiveRankValues:
    num_samples = len(rows)
    centred = rows - rows.mean(0)
    squares = rows.square().mean(0)
    return _values(
        num_samples,
        squares=squares,
        variances=centred.square().mean(0),
        second_moments=torch.linalg.eigvalsh(rows @ rows.mT / num_samples),
        spectrum=torch.linalg.eigvalsh(centred @ centred.mT / num_samples),
        alignment=alignment_of_rows(centred, _left_of_constants(num_samples, squares)),
    )


def _from_covariance(num_samples: int, mean: Tensor, covariance: Tensor) -> EffectiveRankValues:
    squares = covariance.diagonal() + mean.square()
    return _values(
        num_samples,
        squares=squares,
        variances=covariance.diagonal(),
        second_moments=torch.linalg.eigvalsh(torch.addr(covariance, mean, mean)),
        spectrum=torch.linalg.eigvalsh(covariance),
        alignment=alignment_of_covariance(covariance, _left_of_constants(num_samples, squares)),
    )


def _values(
    num_samples: int,
    *,
    squares: Tensor,
    variances: Tensor,
    second_moments: Tensor,
    spectrum: Tensor,
    alignment: Tensor,
) -> EffectiveRankValues:
    # squares, variances: by dimension (D,); second_moments, spectrum: eigenvalues, min(N, D) in rising order
    relative = EPS * max(num_samples, len(variances))
    kept_moments = second_moments.where(second_moments > relative * second_moments[-1], 0)
    rounding = relative * spectrum[-1] + _left_of_constants(num_samples, second_moments[-1])
    std = variances.where(variances > _left_of_constants(num_samples, squares), 0).sqrt()
    return EffectiveRankValues(
        effective_rank=effective_rank(spectrum.where(spectrum > rounding, 0)),
        rankme=_rankme(kept_moments.sqrt()),
        std=std,
        min_std=std.min(),
        mean_std=std.mean(),
        dimension_alignment=alignment,
    )


def _left_of_constants(num_samples: int, second_moments: Tensor) -> Tensor:
    # The variance that rounding can leave of a constant: its mean is off by at most N eps of it.
    return (num_samples * EPS) ** 2 * second_moments


def _rankme(singular_values: Tensor) -> Tensor:
    total = singular_values.sum()
    shares = singular_values / total.where(total > 0, 1)
    return (-shares * (shares + _RANKME_EPSILON).log()).sum().exp()
