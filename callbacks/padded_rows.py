"""Which rows of a validation batch are samples, and which only pad the ranks to equal lengths.

A DistributedSampler, in order or shuffled, appends its first samples again until all ranks have equally many.
"""

from typing import Any

from torch.utils.data.distributed import DistributedSampler


def num_real_rows(loader: Any, batch_index: int, num_rows: int) -> int:
    """Rows of a batch that are no repetitions made by a DistributedSampler.

    Args:
        loader: The rank's validation loader.
        batch_index: Index of the batch on this rank, from 0.
        num_rows: Rows of the batch.

    Returns:
        The number of real rows; they come first. All rows where the loader has no such sampler.
    """
    batches = getattr(loader, "batch_sampler", None)
    sampler: Any = getattr(batches, "sampler", getattr(loader, "sampler", None))
    if not isinstance(sampler, DistributedSampler):
        return num_rows
    first = batch_index * getattr(batches, "batch_size", 1)
    # what the sampler runs over, which a sampler of the user's own may have made a part of the loader's dataset
    num_samples = len(getattr(sampler, "dataset"))  # noqa: B009
    own = range(sampler.rank, num_samples, sampler.num_replicas)
    return max(0, min(num_rows, len(own) - first))
