"""The order and the augmentations of a training epoch as functions of a seed and the epoch's number.

Lightning tells the sampler the number of every epoch, and keeps the loader's place in it in every checkpoint, so a
resumed run sees the data of the uninterrupted one, whatever else drew from torch's generators, and with any number
of loader processes.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from lightning_ssl_theory import distributed
from lightning_ssl_theory.checks import InputError, check_integer


class EpochDataset(Dataset[tuple[list[Tensor], Tensor]]):
    """Labelled views, drawn anew in every epoch.

    Args:
        seed: any non-negative integer; equal seeds give equal draws.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed
        # shared, because persistent loader processes keep their copy of the dataset over epochs
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        """Number of samples."""
        raise NotImplementedError

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next draws, in this process and in the loader's.

        Args:
            epoch: number of the epoch, >= 0.
        """
        self._epoch.fill_(epoch)

    def seed_of(self, index: int) -> int:
        """Seed of the draws for one sample in this epoch.

        Args:
            index: the sample.

        Returns:
            64 bits, a hash of (seed, epoch, index).
        """
        entropy = (self._seed, int(self._epoch), index)
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


class EpochSampler(DistributedSampler):
    """Random order of a dataset's indices, a function of the seed and the epoch, split over the processes.

    Departures from torch's sampler: (1) the dataset is told the epoch too; (2) in a loop that never calls
    `set_epoch` every new pass is the next epoch; (3) where the number of processes does not divide the
    number of samples, the rest is left out of the epoch, not repeated.

    Args:
        dataset: what is sampled.
        num_replicas: number of processes W >= 1.
        rank: this process, 0 <= rank < W.
        seed: any non-negative integer, equal on all processes.

    Attributes:
        num_skipped: number of samples of this process that the next pass leaves out at its start.
    """

    def __init__(self, dataset: EpochDataset, *, num_replicas: int = 1, rank: int = 0, seed: int = 0) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed, drop_last=True)
        self._views = dataset
        self._is_used = False
        self.num_skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass, here and in the dataset; another epoch starts at its first sample.

        Args:
            epoch: number of the epoch, >= 0.
        """
        if epoch != self.epoch:
            self.num_skipped = 0
        super().set_epoch(epoch)
        self._views.set_epoch(epoch)
        self._is_used = False

    def __iter__(self) -> Iterator[int]:
        if self._is_used:
            self.set_epoch(self.epoch + 1)
        self._is_used = True
        num_skipped, self.num_skipped = self.num_skipped, 0
        return islice(super().__iter__(), num_skipped, None)


class EpochLoader(DataLoader):
    """Loader over an `EpochSampler` that keeps its place in the epoch in Lightning's checkpoints.

    The state is the epoch and the number of batches that were handed out, the same on all processes. A loader with
    a restored state gives the rest of that epoch first, and whole epochs from then on. One that Lightning has made anew
    with a sampler of its own, as for `overfit_batches` and in prediction, has no place to keep.
    """

    _num_given = 0

    # a generator, since Lightning asks for the iterator before it tells the sampler the epoch, and loader processes
    # draw their first samples at once
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        sampler = self._epochs
        self._num_given = sampler.num_skipped // (self.batch_size or 1) if sampler else 0
        for batch in super().__iter__():
            self._num_given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Returns the epoch and the number of its batches that were handed out; nothing without an `EpochSampler`."""
        sampler = self._epochs
        if sampler is None:
            return {}
        is_whole = self._num_given == len(self)
        return {"epoch": sampler.epoch + is_whole, "batch": 0 if is_whole else self._num_given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next pass at a place.

        Args:
            state: what `state_dict` returned.
        """
        sampler = self._epochs
        if sampler is None or not state:
            return
        sampler.set_epoch(state["epoch"])
        self._num_given = state["batch"]
        sampler.num_skipped = self._num_given * (self.batch_size or 1)

    @property
    def _epochs(self) -> EpochSampler | None:
        return self.sampler if isinstance(self.sampler, EpochSampler) else None


def check_seed(seed: int) -> None:
    """Raise unless a seed is one that samples can be drawn from.

    Args:
        seed: to be >= 0.

    Raises:
        InputError: it is negative.

    Example:
        >>> check_seed(-1)
        Traceback (most recent call last):
        lightning_ssl_theory.checks.InputError: Expected `seed` of at least 0, got -1; pass a non-negative integer.
    """
    check_integer(seed, "seed", at_least=0, advice="pass a non-negative integer")


def training_loader(
    dataset: EpochDataset,
    batch_size: int,
    *,
    seed: int = 0,
    num_workers: int = 0,
    collate_fn: Callable[[Any], Any] | None = None,
) -> EpochLoader:
    """Loader of this process's part of each epoch, in batches of one size.

    Args:
        dataset: what is loaded.
        batch_size: N, at most the number of samples of a process; the samples left over are dropped.
        seed: of the order.
        num_workers: number of loader processes, which live as long as the loader.
        collate_fn: samples to batch; None is torch's.

    Returns:
        The loader; its batches are a function of `seed`, the dataset's seed, the epoch and the process, and it
        keeps its place in checkpoints.

    Raises:
        InputError: the batch size is not positive or exceeds the number of samples of a process.
    """
    check_integer(batch_size, "batch_size")
    sampler = EpochSampler(dataset, num_replicas=distributed.world_size(), rank=distributed.rank(), seed=seed)
    if len(sampler) < batch_size:
        raise InputError(
            f"Expected `batch_size` <= {len(sampler)}, the number of training samples of a process, "
            f"got {batch_size}; pass a smaller one."
        )
    return EpochLoader(
        dataset,
        batch_size=batch_size,  # by its name, as Lightning makes loaders anew with another one
        sampler=sampler,
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=collate_fn,
        generator=torch.Generator().manual_seed(seed),  # else each pass draws from the global one
    )
