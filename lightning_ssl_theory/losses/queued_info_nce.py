"""InfoNCE whose negatives are the keys of earlier batches: MoCo's loss."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_ssl_theory.checks import InputError, check_positive, check_shape
from lightning_ssl_theory.losses.sample_rows import matched_rows, mean_over_samples, unit_rows


class QueuedInfoNCELoss(nn.Module):
    r"""Mean cross-entropy of finding a query's own key among the keys of earlier batches.

    .. math::
        L = -\frac1N \sum_n \log
        \frac{e^{q_n^\top k_n / \tau}}{e^{q_n^\top k_n / \tau} + \sum_j e^{q_n^\top c_j / \tau}}

    with queries q, keys k and queued keys c divided by their lengths. Keys of the same batch are no negatives. With an
    empty queue there is nothing to tell apart: the value and all gradients are zero.

    N counts the samples of all ranks: the value is equal on every rank, and the parameters' gradients, once
    DistributedDataParallel has averaged them, are those of one process on the concatenated batch, if the queue is equal
    on all ranks, as that of `MomentumContrastSSL` is. Half precision is computed in float32, also under autocast.
    O(n_r K E) time and O((n_r + E) K) memory a rank for K queued keys, one exchange of two numbers.

    Args:
        temperature: :math:`\tau > 0`.

    Raises:
        InputError: If the temperature is not positive.

    References:
        He, Fan, Wu, Xie, Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", 2020, eq. 1.

    Example:
        >>> query, queue = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
        >>> loss = QueuedInfoNCELoss(temperature=1.0)(query, query, queue)  # log(1 + 2 e^-1)
        >>> round(loss.item(), 6)
        0.551445
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        check_positive(temperature, "temperature")
        self.temperature = temperature

    def forward(self, queries: Tensor, keys: Tensor, queue: Tensor) -> Tensor:
        """Value of the loss.

        Args:
            queries: Of this rank's samples, shape (n_r, E).
            keys: Of the same samples, shape (n_r, E).
            queue: Keys of other samples, equal on every rank, shape (K, E); K may be 0.

        Returns:
            Scalar, the mean over the samples of all ranks, in nats.

        Raises:
            InputError: If one is no matrix of real numbers, their shapes do not fit, or no rank has a sample.
        """
        q, k = matched_rows(queries=queries, keys=keys)
        check_shape(queue, "queue", "K E")
        if queue.shape[1] != q.shape[1]:
            raise InputError(
                f"Expected `queue` of as many columns as `queries`, got {queue.shape[1]} and {q.shape[1]}; "
                "pass keys of the same network."
            )
        with torch.autocast(q.device.type, enabled=False):
            q, k = unit_rows(q) / self.temperature, unit_rows(k)
            logits = torch.cat([(q * k).sum(1, keepdim=True), q @ unit_rows(queue.to(q)).mT], dim=1)
            own = torch.zeros(len(q), dtype=torch.long, device=q.device)
            entropies = cross_entropy(logits, own, reduction="sum")
            return mean_over_samples(entropies, len(q), "queries")
