"""Which rows of a validation batch are samples, and which only pad the ranks to equal lengths."""

from typing import Any

from torch.utils.data.distributed import DistributedSampler


def num_real_rows(loader: Any, batch_index: int, num_rows: int) -> int:
    """Rows of a batch that are no repetitions made by a DistributedSampler in order.

    Args:
        loader: The rank's validation loader.
        batch_index: Index of the batch on this rank, from 0.
        num_rows: Rows of the batch.

    Returns:
        The number of real rows; they come first. All rows where the loader has no such sampler.
    """
    sampler = getattr(loader, "sampler", None)
    if not isinstance(sampler, DistributedSampler) or sampler.shuffle:
        return num_rows
    first = batch_index * (loader.batch_size or 1)
    own = range(sampler.rank, len(loader.dataset), sampler.num_replicas)
    return max(0, min(num_rows, len(own) - first))
