"""The order and the augmentations of a training epoch as functions of a seed and the epoch's number.

Lightning tells the sampler the number of every epoch, so a run resumed at the start of an epoch sees the data
of the uninterrupted one, whatever else drew from torch's generators, and with any number of loader processes.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler


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
    """

    def __init__(self, dataset: EpochDataset, *, num_replicas: int = 1, rank: int = 0, seed: int = 0) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed, drop_last=True)
        self._views = dataset
        self._is_used = False

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass, here and in the dataset.

        Args:
            epoch: number of the epoch, >= 0.
        """
        super().set_epoch(epoch)
        self._views.set_epoch(epoch)
        self._is_used = False

    def __iter__(self) -> Iterator[int]:
        if self._is_used:
            self.set_epoch(self.epoch + 1)
        self._is_used = True
        return super().__iter__()
