"""Covariances from sums over samples, and the best linear readers that they make."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.moments import EPS

_DEPENDENT = 1e-10
"""Share of a standardised variance up to which a direction counts as a combination of the others: float32 features that
are one to rounding, 1e-14, do."""


class LinearReader(NamedTuple):
    """The best linear reader of targets from features, with an intercept."""

    weights: Tensor
    """Shape (D, K)."""
    rank: Tensor
    """Number of independent directions of the features, a scalar."""


def covariance_of_sums(count: Tensor, total: Tensor, products: Tensor) -> Tensor:
    """Covariances over N, exactly zero in the rows and columns of constants.

    Args:
        count: N, shape (…), float64; 0 counts as 1.
        total: Sums of the W numbers, shape (…, W).
        products: Sums of their products, shape (…, W, W).

    Returns:
        Shape (…, W, W).

    Example:
        >>> x = torch.tensor([[1.0, 0.1], [3.0, 0.1]], dtype=torch.float64)
        >>> covariance_of_sums(torch.tensor(2.0), x.sum(0), x.mT @ x).tolist()
        [[1.0, 0.0], [0.0, 0.0]]
    """
    size = count.clamp(min=1)[..., None, None]
    mean = total.unsqueeze(-1) / size
    covariance = products / size - mean @ mean.mT
    squares = torch.diagonal(products, dim1=-2, dim2=-1)  # / N is the second moment, N EPS of it its rounding
    return _without(covariance, _variances(covariance) <= EPS * squares)


def linear_reader(inner: Tensor, cross: Tensor) -> LinearReader:
    """Weights of the best linear reader, the shortest in standard units where features depend on one another.

    Args:
        inner: Covariance of the features, shape (D, D), float64.
        cross: Covariance of features and targets, shape (D, K).

    Returns:
        LinearReader. O(D^3) time.

    Example:
        >>> linear_reader(torch.ones(2, 2).double(), torch.ones(2, 1).double()).weights.flatten()
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    variances = inner.diagonal()
    scale = variances.where(variances > 0, 1).rsqrt() * (variances > 0)
    eigenvalues, vectors = torch.linalg.eigh(inner * scale * scale.unsqueeze(1))
    is_kept = eigenvalues > _DEPENDENT * len(inner)
    inverse = is_kept / eigenvalues.where(is_kept, 1)
    along = vectors.mT @ (scale.unsqueeze(1) * cross)
    return LinearReader(scale.unsqueeze(1) * (vectors @ (inverse.unsqueeze(1) * along)), is_kept.sum())


def residual_covariance(covariance: Tensor, num_given: int) -> tuple[Tensor, Tensor]:
    """Covariance of what the best linear readers from the last numbers leave of the first.

    Args:
        covariance: Of all, shape (W, W), float64.
        num_given: How many, of the last ones, are given.

    Returns:
        Shape (W - G, W - G), zero in the rows and columns of what is left with no more than rounding; and how many
        independent numbers are given, a scalar.

    Example:
        >>> left, rank = residual_covariance(torch.tensor([[2.0, 1.0], [1.0, 1.0]]).double(), 1)
        >>> left.tolist(), rank.item()
        ([[1.0]], 1)
    """
    kept = len(covariance) - num_given
    free, cross = covariance[:kept, :kept], covariance[kept:, :kept]
    reader = linear_reader(covariance[kept:, kept:], cross)
    left = free - cross.mT @ reader.weights
    left = (left + left.mT) / 2
    return _without(left, _variances(left) <= _DEPENDENT * num_given * _variances(free)), reader.rank


def _variances(covariance: Tensor) -> Tensor:
    return torch.diagonal(covariance, dim1=-2, dim2=-1)


def _without(covariance: Tensor, is_constant: Tensor) -> Tensor:
    return covariance.masked_fill(is_constant.unsqueeze(-1) | is_constant.unsqueeze(-2), 0)
