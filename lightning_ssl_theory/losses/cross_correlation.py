r"""Cross-correlation of two views against the identity: Barlow Twins, and the form whose dynamics are solved."""

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError, check_flag, check_number
from lightning_ssl_theory.distributed import all_sum, is_distributed
from lightning_ssl_theory.losses.batch_moments import (
    batch_moments,
    check_count,
    check_two,
    check_variance,
    off_diagonal_energy,
    two_views,
)

BARLOW_LAMB = 5e-3


class CrossCorrelationLoss(nn.Module):
    r"""Squared distance of the cross-correlation matrix of two views from the identity.

    .. math::
        L = \sum_i (1 - C_{ii})^2 + \lambda \sum_{i \ne j} C_{ij}^2, \qquad
        C = \frac1N \sum_n \hat z_{1n} \hat z_{2n}^\top

    Barlow Twins: every feature of each view is centred and divided by its standard deviation (1/N) first. With
    `standardize=False` features enter as they are, all entries weigh alike and C is symmetrized, so that
    :math:`L = \|C - I\|_F^2` with :math:`C = W \Gamma W^\top`, :math:`\Gamma = \mathrm{sym}\, E\, x_1 x_2^\top`, for a
    linear network.

    Mean, deviation and C are those of the samples of all ranks: the value is equal on each, and the parameters'
    gradients, once DistributedDataParallel has averaged them, are those of one process on the concatenated batch. Half
    precision is computed in float32. NaN stays NaN, so that a gradient scaler can skip the step.

    Cost: O(n_r D^2) time and O(D^2 + n_r D) memory a rank, with one exchange of D^2 numbers.

    Args:
        lamb: :math:`\lambda \ge 0`, weight of the squares off the diagonal; only where features are standardized.
        standardize: Whether they are.
        eps: Added to the variances, which would have to be positive otherwise.

    Raises:
        InputError: If an argument is out of its range, or `lamb` is given without standardization.

    References:
        Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", 2021, eq.
        1; Simon et al., "On the Stepwise Nature of Self-Supervised Learning", 2023, eq. 1.

    Example:
        >>> z = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
        >>> CrossCorrelationLoss(lamb=0.5)(z, z).item()  # both features are one: C = (1, 1; 1, 1)
        1.0
        >>> CrossCorrelationLoss(standardize=False)(3 * z, z).item()  # C = (3, 3; 3, 3): 2 * (3 - 1)^2 + 2 * 3^2
        26.0
    """

    def __init__(self, lamb: float = BARLOW_LAMB, standardize: bool = True, *, eps: float = 0.0) -> None:
        super().__init__()
        check_number(lamb, "lamb", "[0, inf)", advice="it is a weight")
        check_flag(standardize, "standardize")
        check_number(eps, "eps", "[0, inf)", advice="it is added to variances")
        if not standardize and lamb not in (BARLOW_LAMB, 1.0):
            raise InputError(
                f"Expected no `lamb` with standardize=False, got {lamb}; all entries of C - I weigh alike there."
            )
        self.lamb = lamb
        self.standardize = standardize
        self.eps = eps

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Value of the loss.

        Args:
            z1: First views of the n_r samples of this rank, shape (n_r, D).
            z2: Second views of the same samples, shape (n_r, D).

        Returns:
            Scalar, a function of the samples of all ranks.

        Raises:
            InputError: If shapes differ, there are too few samples, or a feature has no variance to be divided by.
        """
        parts = self.parts(z1, z2)
        return parts["alignment"] + parts["regularization"]

    def parts(self, z1: Tensor, z2: Tensor) -> dict[str, Tensor]:
        r"""The summands on and off the diagonal; together they are the loss.

        Args:
            z1: As in `forward`.
            z2: As in `forward`.

        Returns:
            "alignment", :math:`\sum_i (1 - C_{ii})^2`, and "regularization", :math:`\lambda \sum_{i \ne j} C_{ij}^2`.
            With standardized features :math:`1 - C_{ii}` is half the mean squared distance of the views in feature i,
            so that alignment vanishes for identical views.

        Raises:
            InputError: As in `forward`.
        """
        x1, x2 = two_views(z1, z2)
        with torch.autocast(x1.device.type, enabled=False):
            if self.standardize:
                x1, x2, num_samples = self._standardized(x1, x2)
            else:
                num_samples = _num_samples(x1)
            energy, diagonal = off_diagonal_energy(x1[None], x2[None], is_symmetrized=not self.standardize)
            alignment = (1 - diagonal / num_samples).square().sum()
            weight = self.lamb if self.standardize else 1.0
            return {"alignment": alignment, "regularization": weight * energy.sum() / num_samples**2}

    def _standardized(self, z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor, int]:
        if is_distributed():
            moments = batch_moments(torch.stack([z1, z2]))
            mean, variance, num_samples = moments.mean, moments.variance, moments.num_samples
            first, second = (moments.centred * (variance + self.eps).rsqrt()).unbind()
        else:
            num_samples = len(z1)
            check_two(num_samples)
            (first, *own), (second, *other) = (_batch_normalized(z, self.eps) for z in (z1, z2))
            mean, variance = (torch.stack(pair) for pair in zip(own, other, strict=True))
        if self.eps == 0:
            check_variance(mean, variance, "pass eps=1e-5")
        return first, second, num_samples


def _batch_normalized(z: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    # Standardized rows in one pass forward and one backward, mean and variance. The shift changes nothing but rounding.
    shift = z.detach().mean(0)
    rows, _, scale = torch.native_batch_norm(z - shift, None, None, None, None, True, 0.0, eps)
    variance = (scale**-2 - eps).masked_fill(scale == 0, 0.0)  # the scale of a constant is 0 on the CPU
    return rows, shift, variance.detach()


def _num_samples(rows: Tensor) -> int:
    count = int(all_sum(torch.tensor(len(rows), device=rows.device))) if is_distributed() else len(rows)
    check_count(count, 1, "there is nothing to correlate")
    return count
