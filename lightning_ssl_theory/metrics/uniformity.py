r"""Uniformity: how evenly normalised features spread over the sphere."""

from typing import Any, NamedTuple

from torch import Tensor
from torch.nn.functional import normalize

from lightning_ssl_theory.checks import InputError, check_finite, check_shape
from lightning_ssl_theory.metrics.sum_metric import SumMetric
from lightning_ssl_theory.moments import to_float64
from lightning_ssl_theory.row_blocks import row_blocks


class _Sums(NamedTuple):
    num_pairs: Tensor
    potential_sum: Tensor


def uniformity(features: Tensor) -> Tensor:
    r"""Logarithm of the mean Gaussian potential over pairs of distinct samples.

    .. math:: \log E_{x \ne y}\, e^{-2 \| f(x) - f(y) \|^2}, \quad \|f\| = 1

    Args:
        features: One view of each sample, shape (N, D), N >= 2; rows are normalised here.

    Returns:
        A float64 scalar in [-8, 0]: 0 when all samples fall together; about -4 (from above) in high
        dimensions when they spread evenly. O(N^2 D) time; O(N D) memory and blocks of 32 MB, never N x N.

    References:
        T. Wang, P. Isola, "Understanding Contrastive Representation Learning through Alignment and
        Uniformity on the Hypersphere", 2020.

    Example:
        >>> import torch
        >>> round(float(uniformity(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))), 6)
        -4.0
    """
    check_shape(features, "features", "N+ D+")
    return _compute(_update(features))


class Uniformity(SumMetric):
    """Logarithm of the mean Gaussian potential over the pairs within each batch; see `uniformity`.

    The state is the sum of the potentials and the number of pairs. What is exact: the mean over all pairs
    whose samples share a batch. Pairs between batches or ranks are not formed, so the value depends a little
    on how samples are grouped, not on the order of batches nor on which rank has which. Over random batches
    the mean inside the logarithm has the same expectation for every batch size.

    State: 2 float64 numbers.

    Args:
        **kwargs: Passed on to `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = Uniformity()
        >>> metric.update(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
        >>> metric.update(torch.tensor([[2.0, 0.0]]))  # holds no pair
        >>> round(float(metric.compute()), 6)
        -4.0
    """

    higher_is_better = False

    num_pairs: Tensor
    potential_sum: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._declare_sums(num_pairs=(), potential_sum=())

    def update(self, features: Tensor) -> None:
        """Add the pairs of a batch.

        Args:
            features: Shape (N, D).
        """
        self._add_sums(_update(features)._asdict())

    def compute(self) -> Tensor:
        """The value over all pairs that were added.

        Returns:
            A float64 scalar.
        """
        return _compute(_Sums(self.num_pairs, self.potential_sum))


def _update(features: Tensor) -> _Sums:
    check_shape(features, "features", "N D")
    check_finite(features, "features")
    points = normalize(to_float64(features))
    points = points - points.mean(0)  # distances do not depend on it, their rounding does
    squares, num_points = points.square().sum(1), len(points)
    potential_sum = points.new_zeros(())
    for rows in row_blocks(num_points, num_points):
        columns = slice(rows.start, num_points)
        products = points[rows] @ points[columns].mT
        squared_distances = (squares[rows, None] + squares[columns] - 2 * products).clamp(min=0)
        # i < j: the block begins on the diagonal
        potential_sum += squared_distances.mul(-2).exp().triu(diagonal=1).sum()
    return _Sums(points.new_tensor(num_points * (num_points - 1) / 2), potential_sum)


def _compute(sums: _Sums) -> Tensor:
    if sums.num_pairs == 0:
        raise InputError(
            "Expected at least one pair of samples, got none; update with batches of two or more rows."
        )
    return (sums.potential_sum / sums.num_pairs).log()
