r"""VICReg: views agree, every feature varies, and no two features do so together."""

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import check_number, check_positive
from lightning_ssl_theory.losses.batch_moments import batch_moments, off_diagonal_energy, two_views


class VICRegLoss(nn.Module):
    r"""Invariance, variance and covariance of two views.

    .. math::
        L = \frac{\lambda}{N D} \sum_n \|z_{1n} - z_{2n}\|^2
        + \frac{\mu}{2 D} \sum_{v, i} \max\big(0, 1 - \sqrt{\mathrm{Var}\, z_{vi} + \epsilon}\big)
        + \frac{\nu}{D} \sum_v \sum_{i \ne j} \mathrm{Cov}(z_v)_{ij}^2

    with variance and covariance of each view over the samples of all ranks, divided by N - 1. The value is equal on
    every rank, and the parameters' gradients, once DistributedDataParallel has averaged them, are those of one process
    on the concatenated batch. Half precision is computed in float32.

    Cost: O(n_r D^2) time and O(D^2 + n_r D) memory a rank, with one exchange of 2 D^2 numbers.

    Args:
        invariance_weight: :math:`\lambda \ge 0`.
        variance_weight: :math:`\mu \ge 0`.
        covariance_weight: :math:`\nu \ge 0`.
        eps: :math:`\epsilon > 0`, so that a constant feature has a gradient.

    Raises:
        InputError: If a weight is negative or eps not positive.

    References:
        Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
        2022, eq. 1-6; the factor 1/2 of the variance term is that of the authors' code.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])  # Var = (2, 0), no covariance
        >>> round(VICRegLoss()(z, z).item(), 6)  # 25 / 4 * 2 * (1 - 0.01)
        12.375
    """

    def __init__(
        self,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        *,
        eps: float = 1e-4,
    ) -> None:
        super().__init__()
        weights = {
            "invariance_weight": invariance_weight,
            "variance_weight": variance_weight,
            "covariance_weight": covariance_weight,
        }
        for name, weight in weights.items():
            check_number(weight, name, "[0, inf)", advice="0.0 leaves its term out")
        check_positive(eps, "eps")
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        self.eps = eps

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Value of the loss.

        Args:
            z1: First views of the n_r samples of this rank, shape (n_r, D).
            z2: Second views of the same samples, shape (n_r, D).

        Returns:
            Scalar, a function of the samples of all ranks.

        Raises:
            InputError: If shapes differ or there are less than two samples over all ranks.
        """
        parts = self.parts(z1, z2)
        return parts["alignment"] + parts["regularization"]

    def parts(self, z1: Tensor, z2: Tensor) -> dict[str, Tensor]:
        """The invariance term, and those of variance and covariance; together they are the loss.

        Args:
            z1: As in `forward`.
            z2: As in `forward`.

        Returns:
            "alignment", zero for identical views, and "regularization".

        Raises:
            InputError: As in `forward`.
        """
        rows = torch.stack(two_views(z1, z2))
        width = rows.shape[2]
        with torch.autocast(rows.device.type, enabled=False):
            moments = batch_moments(rows, along=(rows[0] - rows[1]).square().sum())
            num_samples = moments.num_samples
            distance = moments.total / num_samples
            variance = moments.variance * (num_samples / (num_samples - 1))
            hinge = (1 - (variance + self.eps).sqrt()).relu().sum() / 2
            energy, _ = off_diagonal_energy(moments.centred)
            covariance = energy.sum() / (num_samples - 1) ** 2
            spread = self.variance_weight * hinge + self.covariance_weight * covariance
            return {"alignment": self.invariance_weight * distance / width, "regularization": spread / width}
