"""This rank's share of the samples that a loader gives, in the dataset's order where there is one."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import RunningStage
from torch import Tensor
from torch.utils import _pytree
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from lightning_ssl_theory.checks import InputError, described
from lightning_ssl_theory.distributed import all_gather_rows, rank, world_size

from .chosen_rows import rank_share, spread

STREAM_SAMPLES = 10_000
"""Samples that are read of a stream without length where the user gives no number."""


def check_loader(loader: Any, name: str) -> None:
    """Raise InputError unless a value gives batches or is None; a dataset has batches of one image each."""
    if loader is not None and (isinstance(loader, Dataset | str) or not isinstance(loader, Iterable)):
        raise InputError(
            f"Expected `{name}` to be a loader of batches, got {described(loader)}; "
            "wrap a dataset in torch.utils.data.DataLoader."
        )


def rank_batches(loader: Any, num_samples: int | None) -> Iterable[Any]:
    """This rank's batches of at least `num_samples` samples over all ranks, or all.

    Args:
        loader: A loader over a map-style dataset, of which samples spread over the set are taken; or anything that can
            be iterated and gives batches, of which they are the first. Where it starts with the same batch on all
            ranks, each takes every W-th; else each has a shard of its own.
        num_samples: Most samples over all ranks; `None` for all, of a stream without length `STREAM_SAMPLES`.

    Returns:
        The batches.

    Raises:
        InputError: If there is no loader, or its sampler chooses samples in a way that cannot be followed.
    """
    dataset = getattr(loader, "dataset", None)
    if loader is None or (
        isinstance(loader, DataLoader) and hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    ):
        return rank_shard(loader, num_samples)
    return _streamed(
        loader, num_samples if num_samples is not None or hasattr(loader, "__len__") else STREAM_SAMPLES
    )


def _streamed(loader: Iterable[Any], num_samples: int | None) -> Iterator[Any]:
    batches = iter(loader)
    first = next(batches, None)
    marks = all_gather_rows(torch.tensor([_mark(first)], dtype=torch.float64))
    is_copied = bool((marks == marks[0]).all())
    most, num_read, index = num_samples if is_copied else rank_share(num_samples), 0, 0
    while first is not None and (most is None or num_read < most):
        if not is_copied or index % world_size() == rank():
            yield first
        num_read, index, first = num_read + _length(first), index + 1, next(batches, None)


def _leaves(batch: Any) -> list[Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim > 0]


def _mark(batch: Any) -> float:
    # tells batches apart; NaN differs from all
    return float("nan") if batch is None else float(sum(leaf.double().sum() for leaf in _leaves(batch)))


def _length(batch: Any) -> int:
    return max((len(leaf) for leaf in _leaves(batch)), default=1)


def transferred(pl_module: LightningModule, batch: Any) -> Any:
    """A batch as validation would get it: what the user's hooks do around the transfer is a part of the data."""
    trainer = pl_module.trainer
    stage = trainer.state.stage
    trainer.state.stage = RunningStage.VALIDATING
    try:
        batch = trainer.precision_plugin.convert_input(batch)
        batch = pl_module._on_before_batch_transfer(batch, dataloader_idx=0)
        return trainer.strategy.batch_to_device(batch, dataloader_idx=0)
    finally:
        trainer.state.stage = stage


def rank_shard(loader: DataLoader | None, num_samples: int | None) -> DataLoader:
    """A loader over every W-th of `num_samples` samples spread over the set, without shuffling or repetition.

    Args:
        loader: A loader over a map-style dataset; its batch size, workers and collate function are kept.
        num_samples: Most samples over all ranks; `None` for all.

    Returns:
        The loader: sample i of rank r is sample i W + r of all.

    Raises:
        InputError: If there is no loader, or its sampler chooses samples in a way that cannot be followed.
    """
    if loader is None:
        raise InputError("Expected a loader of labelled samples, found none; pass a DataLoader.")
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


def dataset_positions(rows: Tensor) -> tuple[Tensor, int]:
    """Where the rows that this rank has read of `rank_batches` stand among those of all ranks.

    Args:
        rows: Of this rank, (n, ...); all ranks take part.

    Returns:
        Positions (n,), which do not depend on the number of ranks where the dataset has an order: every W-th sample is
        this rank's; of a stream its rows follow those of the ranks before. And the number of rows of all ranks.
    """
    counts = all_gather_rows(torch.tensor([len(rows)])).tolist()
    total, every = sum(counts), world_size()
    own = torch.arange(len(rows), device=rows.device)
    is_dealt = counts == [len(range(first, total, every)) for first in range(every)]
    return (own * every + rank() if is_dealt else own + sum(counts[: rank()])), total


def _sampled(loader: DataLoader) -> Sequence[int]:
    sampler: Any = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if isinstance(sampler, SubsetRandomSampler):
        return sampler.indices
    dataset: Any = loader.dataset
    everything = range(len(dataset))
    is_whole = isinstance(sampler, SequentialSampler | RandomSampler | DistributedSampler)
    # Lightning puts a DistributedSampler around a sampler of the user's own.
    if not is_whole or len(getattr(sampler, "dataset", dataset)) != len(dataset):
        raise InputError(
            f"Expected a loader of all or a subset of its dataset, found {type(sampler).__name__}; "
            "wrap the dataset in torch.utils.data.Subset."
        )
    return everything
