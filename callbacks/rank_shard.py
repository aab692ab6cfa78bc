"""This rank's share of the samples that a loader gives, in the dataset's order."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from lightning_ssl_theory.distributed import rank, world_size

from .chosen_rows import spread


def rank_shard(loader: DataLoader | None, num_samples: int | None) -> DataLoader:
    """A loader over every W-th of `num_samples` samples spread over the set, without shuffling or repetition.

    Args:
        loader: A loader over a map-style dataset; its batch size, workers and collate function are kept.
        num_samples: Most samples over all ranks; `None` for all.

    Returns:
        The loader: sample i of rank r is sample i W + r of all.

    Raises:
        ValueError: If there is no loader, its dataset has no length, or its sampler chooses samples in a way that
            cannot be followed.
    """
    if loader is None or not hasattr(loader.dataset, "__len__"):
        found = "none" if loader is None else f"one over {type(loader.dataset).__name__}"
        raise ValueError(
            f"Expected a loader over a dataset with a length for the probe, found {found}; "
            "pass a DataLoader over a map-style dataset."
        )
    everything = _sampled(loader)
    indices = [everything[position] for position in spread(num_samples, len(everything))][
        rank() :: world_size()
    ]
    return DataLoader(
        Subset(loader.dataset, indices),
        batch_size=getattr(loader.batch_sampler, "batch_size", loader.batch_size),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
    )


def _sampled(loader: DataLoader) -> Sequence[int]:
    sampler: Any = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if isinstance(sampler, SubsetRandomSampler):
        return sampler.indices
    dataset: Any = loader.dataset
    everything = range(len(dataset))
    is_whole = isinstance(sampler, SequentialSampler | RandomSampler | DistributedSampler)
    # Lightning puts a DistributedSampler around a sampler of the user's own.
    if not is_whole or len(getattr(sampler, "dataset", dataset)) != len(dataset):
        raise ValueError(
            f"Expected a loader of all or a subset of its dataset for the probe, found {type(sampler).__name__}; "
            "wrap the dataset in torch.utils.data.Subset."
        )
    return everything
