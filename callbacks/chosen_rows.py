"""Which rows of a batch a look takes: samples, not padding, spread evenly over the whole set and over the ranks.

A DistributedSampler, in order or shuffled, appends its first samples again until all ranks have equally many. And
folders of images come class by class, so that the first samples of a set would stand for its first class only.
Positions at one distance would fall in step with the ranks, which hold every W-th sample: all on one of them.
"""

import itertools
import math
from collections.abc import Container, Sequence
from typing import Any

from torch.utils.data.distributed import DistributedSampler

from lightning_ssl_theory.distributed import rank, world_size

_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, modulo 1, fall in step with no period


def spread(num_samples: int | None, total: int) -> Sequence[int]:
    """Positions spread evenly over a set: one in each of `num_samples` equal parts, at a place that varies.

    Args:
        num_samples: How many, at most; `None` for all.
        total: Size of the set.

    Returns:
        min(num_samples, total) positions in rising order.

    Example:
        >>> list(spread(3, 10))
        [0, 4, 6]
    """
    if num_samples is None or num_samples >= total:
        return range(total)
    edges = [index * total // num_samples for index in range(num_samples + 1)]
    return [
        first + int(index * _GOLDEN % 1 * (last - first))
        for index, (first, last) in enumerate(itertools.pairwise(edges))
    ]


def rank_share(num_samples: int | None) -> int | None:
    """This rank's part of a number of samples over all ranks, at least one; `None` stays `None`."""
    if num_samples is None:
        return None
    return max(1, num_samples // world_size() + (rank() < num_samples % world_size()))


def chosen_rows(
    loader: Any,
    batch_index: int,
    num_rows: int,
    num_samples: int | None,
    *,
    num_before: int,
    num_batches: float = math.inf,
) -> list[int]:
    """Rows of a batch that a look takes.

    Args:
        loader: The rank's validation loader.
        batch_index: Index of the batch on this rank, from 0.
        num_rows: Rows of the batch.
        num_samples: Most samples of a look over all ranks; `None` for all.
        num_before: Rows of all batches before it, on this rank.
        num_batches: Most batches that are run on a rank.

    Returns:
        Rows in rising order. They are spread over the set that a DistributedSampler divides, whatever the number of
        ranks; without one over this rank's own set; of either the part that the batches run hold. Of a set without
        length, or whose items are whole batches, they are the first.
    """
    batches = getattr(loader, "batch_sampler", None)
    sampler: Any = getattr(batches, "sampler", getattr(loader, "sampler", None))
    is_divided, rows = isinstance(sampler, DistributedSampler), range(num_rows)
    if batches is None or not hasattr(sampler, "__len__"):
        if is_divided and batch_index * sampler.num_replicas + sampler.rank >= len(sampler.dataset):
            return []
        share = rank_share(num_samples)
        return [row for row in rows if share is None or num_before + row < share]
    most = num_batches * (getattr(batches, "batch_size", None) or math.inf)
    if not is_divided:
        chosen = _quickly(spread(rank_share(num_samples), int(min(most, len(sampler)))))
        return [row for row in rows if num_before + row in chosen]
    # what the sampler runs over, which a sampler of the user's own may have made a part of the loader's dataset
    total = int(min(most * sampler.num_replicas, len(sampler.dataset)))
    chosen = _quickly(spread(num_samples, total))
    positions = range(num_before * sampler.num_replicas + sampler.rank, total, sampler.num_replicas)
    return [row for row, position in zip(rows, positions, strict=False) if position in chosen]


def _quickly(positions: Sequence[int]) -> Container[int]:
    return positions if isinstance(positions, range) else set(positions)
