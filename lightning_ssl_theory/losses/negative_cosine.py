"""How far predictions point away from their targets: SimSiam's and BYOL's loss."""

import torch
from torch import Tensor, nn

from lightning_ssl_theory.losses.sample_rows import matched_rows, mean_over_samples, unit_rows


class NegativeCosineLoss(nn.Module):
    r"""Minus the mean cosine between the predictions and the targets of the samples of all ranks.

    .. math:: L = -\frac1N \sum_n \frac{p_n^\top t_n}{\|p_n\| \|t_n\|}

    This is SimSiam's loss. BYOL's is the squared distance of the normalised vectors, 2 + 2 L, whose gradient is twice
    as long: with plain gradient descent it takes half the learning rate for the same steps. Gradients reach targets,
    too, unless the caller detaches them, as `PredictorSSL` does.

    The value is equal on every rank, and the parameters' gradients, once DistributedDataParallel has averaged them, are
    those of one process on the concatenated batch, however unevenly its samples are spread. A zero vector has cosine 0
    with all others. Half precision is computed in float32, also under autocast. O(n_r E) time and memory a rank, one
    exchange of two numbers.

    References:
        Chen, He, "Exploring Simple Siamese Representation Learning", 2021, eq. 1; Grill et al., "Bootstrap Your Own
        Latent: A New Approach to Self-Supervised Learning", 2020, eq. 2.

    Example:
        >>> predictions, targets = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]])
        >>> NegativeCosineLoss()(predictions, targets).item()  # cosines 1 and 0
        -0.5
    """

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Value of the loss.

        Args:
            predictions: Of this rank's samples, shape (n_r, E).
            targets: Of the same samples, shape (n_r, E).

        Returns:
            Scalar in [-1, 1], the mean over the samples of all ranks.

        Raises:
            InputError: If one is no matrix of real numbers, their shapes differ, or no rank has a sample.
        """
        p, t = matched_rows(predictions=predictions, targets=targets)
        with torch.autocast(p.device.type, enabled=False):
            return mean_over_samples(-(unit_rows(p) * unit_rows(t)).sum(), len(p), "predictions")
