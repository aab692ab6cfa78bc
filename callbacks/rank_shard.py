"""This rank's share of a loader's dataset, in the dataset's order."""

from torch.utils.data import DataLoader, Subset

from lightning_ssl_theory.distributed import rank, world_size


def rank_shard(loader: DataLoader, num_samples: int | None) -> tuple[DataLoader, list[int], int]:
    """A loader over every W-th sample of the first `num_samples`, without shuffling or repetition.

    Args:
        loader: A loader over a map-style dataset; its batch size, workers and collate function are kept.
        num_samples: Most samples over all ranks; `None` for all.

    Returns:
        The loader, the dataset indices of its samples, and the number of samples over all ranks.

    Raises:
        ValueError: If the dataset has no length.
    """
    dataset = loader.dataset
    if not hasattr(dataset, "__len__"):
        raise ValueError(
            f"Expected a loader over a dataset with a length, got {type(dataset).__name__}; "
            "pass a map-style dataset for the probe."
        )
    total = len(dataset) if num_samples is None else min(num_samples, len(dataset))
    indices = list(range(rank(), total, world_size()))
    shard = DataLoader(
        Subset(dataset, indices),
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
    )
    return shard, indices, total
