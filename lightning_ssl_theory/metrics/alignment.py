r"""Alignment: how far apart the normalised features of two views of one sample are."""

from typing import Any, NamedTuple

from torch import Tensor
from torch.nn.functional import normalize

from lightning_ssl_theory.checks import check_finite, check_shape
from lightning_ssl_theory.metrics.sum_metric import SumMetric
from lightning_ssl_theory.moments import check_any_sample, to_float64


class _Sums(NamedTuple):
    num_samples: Tensor
    distance_sum: Tensor


def alignment(z1: Tensor, z2: Tensor) -> Tensor:
    r"""Mean squared distance of the normalised features of two views.

    .. math:: E\, \| f(x_1) - f(x_2) \|^2, \quad \|f\| = 1

    Args:
        z1: Features of the first views, shape (N, D); rows are normalised here, zero rows stay zero.
        z2: Features of the second views, shape (N, D).

    Returns:
        A float64 scalar in [0, 4], mean over N; 0 is perfect. O(N D) time and memory.

    References:
        T. Wang, P. Isola, "Understanding Contrastive Representation Learning through Alignment and
        Uniformity on the Hypersphere", 2020.

    Example:
        >>> import torch
        >>> float(alignment(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])))
        2.0
    """
    check_shape(z1, "z1", "N+ D+")
    return _compute(_update(z1, z2))


class Alignment(SumMetric):
    """Mean squared distance of normalised views over all batches and ranks; see `alignment`.

    Exact: batches and ranks merge to the mean over all samples.

    Args:
        **kwargs: Passed on to `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = Alignment()
        >>> metric.update(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
        >>> metric.update(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
        >>> float(metric.compute())
        1.0
    """

    higher_is_better = False

    num_samples: Tensor
    distance_sum: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._declare_sums(num_samples=(), distance_sum=())

    def update(self, z1: Tensor, z2: Tensor) -> None:
        """Add a batch.

        Args:
            z1: Shape (N, D).
            z2: Shape (N, D).
        """
        self._add_sums(_update(z1, z2)._asdict())

    def compute(self) -> Tensor:
        """The mean over everything that was added.

        Returns:
            A float64 scalar.
        """
        return _compute(_Sums(self.num_samples, self.distance_sum))


def _update(z1: Tensor, z2: Tensor) -> _Sums:
    check_shape(z1, "z1", "N D")
    check_shape(z2, "z2", f"{z1.shape[0]} {z1.shape[1]}")
    check_finite(z1, "z1")
    check_finite(z2, "z2")
    first, second = normalize(to_float64(z1)), normalize(to_float64(z2))
    distances = (first - second).square().sum(1)
    return _Sums(distances.new_tensor(len(distances)), distances.sum())


def _compute(sums: _Sums) -> Tensor:
    check_any_sample(sums.num_samples)
    return sums.distance_sum / sums.num_samples
