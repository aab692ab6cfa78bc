r"""Whether what a latent's children tell about the root lies in one direction, as theory says.

With f the activations of all children of latent mu and f', f'' those of two views (which share the root only),

.. math:: V_{z_0}\big[E[f | z_0]\big] = \mathrm{Cov}(f', f'') = \rho_{0\mu}^2\, a_\mu a_\mu^\top, \quad
    a_\mu = \tfrac12 \big(E[f | z_\mu = 1] - E[f | z_\mu = 0]\big)

"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_integer, check_shape
from lightning_ssl_theory.metrics.latent_selectivity import check_latents
from lightning_ssl_theory.metrics.sum_metric import SumMetric
from lightning_ssl_theory.moments import to_float64


class RankOneValues(NamedTuple):
    """The covariance over roots of the activations below M latents, against a_mu a_mu^T."""

    leading_share: Tensor
    """Largest eigenvalue over the sum of the absolute ones (M,), in [0, 1]; 1 for rank one, 0 without signal."""
    cosine: Tensor
    """Absolute cosine of the leading eigenvector and a_mu (M,), in [0, 1]."""
    scale: Tensor
    """Largest eigenvalue over ||a_mu||^2 (M,); the theorem's rho_{0mu}^2. NaN for a_mu = 0."""


class _Sums(NamedTuple):
    samples: Tensor  # (M, 2), samples by the value of the latent
    first_sum: Tensor  # (2, M, F), first views, likewise
    second_sum: Tensor  # (M, F)
    product_sum: Tensor  # (M, F, F)


def rank_one(first: Tensor, second: Tensor, latents: Tensor) -> RankOneValues:
    r"""Compares the covariance over roots of the activations below each latent with a_mu a_mu^T.

    .. math:: \mathrm{Cov}(f', f'') = \rho_{0\mu}^2\, a_\mu a_\mu^\top

    Args:
        first: Activations of the children of M latents in the first view, (N, M F) or (N, M, F).
        second: The same in a second view, which shares the root and nothing else.
        latents: The M latents in the first view, (N, M), zeros and ones.

    Returns:
        RankOneValues in float64. O(N M F^2 + M F^3) time.

    Raises:
        InputError: If the shapes do not fit, there is no latent, a value is not finite, or a latent is neither 0
            nor 1.

    References:
        Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
        Networks", 2020, Theorem 6.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [2.0, -2.0]])  # all is the root's
        >>> found = rank_one(x, x, torch.tensor([[0], [1]]))
        >>> [round(float(value), 6) for value in found]
        [1.0, 1.0, 1.0]
    """
    check_shape(first, "first", "N+ M+ *")
    return _compute(_update(first, second, latents))


class RankOne(SumMetric):
    """The comparison of `rank_one` over all batches and ranks.

    State: M (2 + 3 F + F^2) float64 numbers.

    Args:
        num_latents: M.
        num_inputs: F, number of neurons of the children of a latent.
        **kwargs: Passed on to `torchmetrics.Metric`.

    Example:
        >>> metric = RankOne(num_latents=1, num_inputs=2)
        >>> for row, latent in (([0.0, 0.0], 0), ([2.0, -2.0], 1)):
        ...     metric.update(torch.tensor([row]), torch.tensor([row]), torch.tensor([[latent]]))
        >>> round(float(metric.compute().cosine), 6)
        1.0
    """

    samples: Tensor
    first_sum: Tensor
    second_sum: Tensor
    product_sum: Tensor

    def __init__(self, num_latents: int, num_inputs: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_integer(num_latents, "num_latents")
        check_integer(num_inputs, "num_inputs")
        self.num_latents, self.num_inputs = num_latents, num_inputs
        self._declare_sums(
            samples=(num_latents, 2),
            first_sum=(2, num_latents, num_inputs),
            second_sum=(num_latents, num_inputs),
            product_sum=(num_latents, num_inputs, num_inputs),
        )

    def update(self, first: Tensor, second: Tensor, latents: Tensor) -> None:
        """Add a batch.

        Args:
            first: Shape (N, M F) or (N, M, F).
            second: The same shape.
            latents: Shape (N, M), zeros and ones.
        """
        check_shape(first, "first", "N M *")
        check_shape(first.flatten(1), "first", f"N {self.num_latents * self.num_inputs}")
        self._add_sums(_update(first, second, latents)._asdict())

    def compute(self) -> RankOneValues:
        """The values over everything that was added.

        Returns:
            RankOneValues in float64.
        """
        return _compute(_Sums(self.samples, self.first_sum, self.second_sum, self.product_sum))


def _update(first: Tensor, second: Tensor, latents: Tensor) -> _Sums:
    check_shape(first, "first", "N M *")
    check_shape(second, "second", "N M *")
    check_latents(latents, len(first))
    num_latents = latents.shape[1]
    size, rest = divmod(first.shape[1:].numel(), num_latents)
    if first.shape != second.shape or first.ndim not in (2, 3) or rest:
        raise InputError(
            f"Expected `first` and `second` of shape (N, M, F) for {num_latents} `latents`, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}; pass the activations of the children of every latent."
        )
    check_finite(first, "first")
    check_finite(second, "second")
    f1, f2 = (to_float64(view).reshape(len(view), num_latents, size) for view in (first, second))
    is_one = to_float64(latents.to(torch.float32))
    values = torch.stack([1 - is_one, is_one])
    return _Sums(
        values.sum(1).mT,
        torch.einsum("vnm,nmf->vmf", values, f1),
        f2.sum(0),
        f1.permute(1, 2, 0) @ f2.transpose(0, 1),
    )


def _compute(sums: _Sums) -> RankOneValues:
    zeros, ones = sums.samples.unsqueeze(2).unbind(1)
    direction = (sums.first_sum[1] / ones - sums.first_sum[0] / zeros) / 2
    num_samples = (zeros + ones)[0]
    means = sums.first_sum.sum(0).unsqueeze(2) * sums.second_sum.unsqueeze(1) / num_samples**2
    covariance = sums.product_sum / num_samples - means
    eigenvalues, eigenvectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
    leading, total = eigenvalues[:, -1], eigenvalues.abs().sum(1)
    length = torch.linalg.vector_norm(direction, dim=1)
    cosine = (eigenvectors[:, :, -1] * direction).sum(1).abs() / length.where(length > 0, 1)
    return RankOneValues(
        leading_share=leading.clamp(min=0) / total.where(total > 0, 1),
        cosine=cosine.clamp(max=1),
        scale=leading / length.square(),
    )
