"""The keys of the last batches, in the order in which they came."""

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError, check_integer


def with_newest(queue: Tensor, keys: Tensor, size: int) -> Tensor:
    """A queue after new keys have come in at its end, and as many of the oldest have left as it is too long.

    Args:
        queue: Keys from the oldest to the newest, (K, E).
        keys: New ones in their order, (N, E).
        size: The most that stay.

    Returns:
        (min(K + N, size), E), a new tensor.

    Example:
        >>> with_newest(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[4.0], [5.0]]), 4).flatten().tolist()
        [2.0, 3.0, 4.0, 5.0]
    """
    return torch.cat([queue.to(keys), keys])[-size:]


class KeyQueue(nn.Module):
    """At most `size` keys, from the oldest to the newest; it starts empty.

    They are no buffer, which DistributedDataParallel would overwrite with the first rank's before every forward pass
    (and would not under manual optimisation), but an extra state: checkpoints keep and restore them exactly.

    Args:
        size: The most keys that it holds.

    Attributes:
        keys: The keys, (K, E) with K <= size; (0, 0) before the first.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        check_integer(size, "queue_size")
        self.size = size
        self.keys = torch.zeros(0, 0)

    def rows(self, like: Tensor) -> Tensor:
        """The keys in the dtype and on the device of other rows, (n, E); (0, E) while there are none."""
        return self.keys.to(like) if len(self.keys) else like.new_zeros(0, like.shape[1])

    def push(self, keys: Tensor) -> None:
        """Let the keys of all ranks in.

        Args:
            keys: (N, E), equal on every rank. Rows that are not finite stay out: else one overflow in half precision,
                whose step a gradient scaler skips, would spoil all steps until they leave.

        Raises:
            InputError: If these are the first, and their number does not divide the size: then the queue would not
                hold whole batches. Smaller batches later on, such as the last of an epoch, are let in as they are.
        """
        if not len(self.keys) and self.size % max(len(keys), 1):
            raise InputError(
                f"Expected `queue_size` to be a multiple of the {len(keys)} keys of a step on all ranks, got "
                f"{self.size}; pass queue_size={-(-self.size // len(keys)) * len(keys)}."
            )
        keys = keys.detach()
        self.keys = with_newest(self.rows(keys), keys[keys.isfinite().all(dim=1)], self.size)

    def get_extra_state(self) -> Tensor:
        """The keys, for the checkpoint."""
        return self.keys.clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Take the newest keys of a checkpoint."""
        self.keys = state.detach().clone()[-self.size :]
