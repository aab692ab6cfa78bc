r"""Spectral contrastive loss: a low-rank factorisation of the graph of augmentations."""

import torch
from torch import Tensor, nn

from lightning_ssl_theory.distributed import all_sum_with_grad
from lightning_ssl_theory.losses.batch_moments import check_count, two_views


class SpectralContrastiveLoss(nn.Module):
    r"""Inner products of the views of one sample, and squared ones of views of different samples.

    .. math::
        L = -\frac2N \sum_i z_{1i}^\top z_{2i} + \frac{1}{N (N - 1)} \sum_{i \ne j} (z_{1i}^\top z_{2j})^2

    over the N samples of all ranks. The second sum is :math:`\langle Z_1^\top Z_1, Z_2^\top Z_2 \rangle` minus its
    diagonal, so that D x D moments cross ranks, no rows. The value is equal on every rank, and the parameters'
    gradients, once DistributedDataParallel has averaged them, are those of one process on the concatenated batch. Half
    precision is computed in float32.

    Cost: O(n_r D^2) time and O(D^2 + n_r D) memory a rank, with one exchange of 2 D^2 numbers.

    References:
        HaoChen, Wei, Gaidon, Ma, "Provable Guarantees for Self-Supervised Deep Learning with Spectral Contrastive
        Loss", 2021, eq. 6.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> SpectralContrastiveLoss()(z, z).item()  # -2 (1 + 2) / 2 + (1 + 1) / 2
        -2.0
    """

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Value of the loss.

        Args:
            z1: First views of the n_r samples of this rank, shape (n_r, D).
            z2: Second views of the same samples, shape (n_r, D).

        Returns:
            Scalar, a mean over the samples of all ranks.

        Raises:
            InputError: If shapes differ or there are less than two samples over all ranks.
        """
        parts = self.parts(z1, z2)
        return parts["alignment"] + parts["regularization"]

    def parts(self, z1: Tensor, z2: Tensor) -> dict[str, Tensor]:
        """The pull between the views of one sample and the push between samples; together they are the loss.

        Args:
            z1: As in `forward`.
            z2: As in `forward`.

        Returns:
            "alignment", the first term, and "regularization", the second.

        Raises:
            InputError: As in `forward`.
        """
        rows = torch.stack(two_views(z1, z2))
        with torch.autocast(rows.device.type, enabled=False):
            positive = (rows[0] * rows[1]).sum(1)
            own = torch.stack([positive.sum(), positive.square().sum(), positive.new_tensor(len(positive))])
            moments = rows.mT @ rows
            total = all_sum_with_grad(torch.cat([own, moments.flatten()]))
            count = int(total[2])
            check_count(count, 2, "without negatives there is no contrast")
            first, second = total[3:].unflatten(0, moments.shape).unbind()
            others = (first * second).sum() - total[1]
            return {"alignment": -2 * total[0] / count, "regularization": others / (count * (count - 1))}
