"""Which rows of a validation batch a look takes: samples, not padding, spread evenly over the whole set.

A DistributedSampler, in order or shuffled, appends its first samples again until all ranks have equally many. And
folders of images come class by class, so that the first samples of a set would stand for its first class only.
"""

from collections.abc import Sequence
from typing import Any

from torch.utils.data.distributed import DistributedSampler

from lightning_ssl_theory.distributed import rank, world_size


def spread(num_samples: int | None, total: int) -> Sequence[int]:
    """Positions spread evenly over a set.

    Args:
        num_samples: How many, at most; `None` for all.
        total: Size of the set.

    Returns:
        min(num_samples, total) positions in rising order.

    Example:
        >>> list(spread(3, 10))
        [0, 3, 6]
    """
    if num_samples is None or num_samples >= total:
        return range(total)
    return [index * total // num_samples for index in range(num_samples)]


def rank_share(num_samples: int | None) -> int | None:
    """This rank's part of a number of samples over all ranks, at least one; `None` stays `None`."""
    if num_samples is None:
        return None
    return max(1, num_samples // world_size() + (rank() < num_samples % world_size()))


def chosen_rows(loader: Any, batch_index: int, num_rows: int, num_samples: int | None) -> list[int]:
    """Rows of a batch that a look takes.

    Args:
        loader: The rank's validation loader.
        batch_index: Index of the batch on this rank, from 0.
        num_rows: Rows of the batch.
        num_samples: Most samples of a look over all ranks; `None` for all.

    Returns:
        Rows in rising order. They are spread over the set that a DistributedSampler divides, whatever the number of
        ranks; without one over this rank's own set; of a set without length they are the first.
    """
    batches = getattr(loader, "batch_sampler", None)
    sampler: Any = getattr(batches, "sampler", getattr(loader, "sampler", None))
    first = batch_index * (getattr(batches, "batch_size", None) or num_rows)
    if isinstance(sampler, DistributedSampler):
        # what the sampler runs over, which a sampler of the user's own may have made a part of the loader's dataset
        total = len(getattr(sampler, "dataset"))  # noqa: B009
        chosen = set(spread(num_samples, total))
        positions = range(first * sampler.num_replicas + sampler.rank, total, sampler.num_replicas)
        return [row for row, position in zip(range(num_rows), positions, strict=False) if position in chosen]
    share = rank_share(num_samples)
    if not hasattr(sampler, "__len__"):
        return [row for row in range(num_rows) if share is None or first + row < share]
    chosen = set(spread(share, len(sampler)))
    return [row for row in range(num_rows) if first + row in chosen]
