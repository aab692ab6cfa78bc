"""The latest training batches, kept until a look has as many samples as it asks for."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch

from lightning_ssl_theory.distributed import all_sum, rank, row_places, world_size

from .chosen_rows import spread

TRAINING_SAMPLES = 256
"""Samples of a look at training batches where `num_samples` is not given: a rank read from 8 looks like collapse."""


class HeldBatches:
    """Training batches of this rank, as few as hold the samples of a look.

    They are looked at together, by the network of one moment. A look of all ranks takes the latest batches that
    together hold enough, each batch on every rank, so that the number of ranks does not matter.

    Args:
        num_samples: Most samples of a look, over all ranks; `None` for `TRAINING_SAMPLES`, and the rest of a batch.
    """

    def __init__(self, num_samples: int | None) -> None:
        self._num_samples = num_samples
        self._needed = TRAINING_SAMPLES if num_samples is None else num_samples
        self._batches: deque[tuple[Any, int]] = deque()  # the latest first, with their rows

    def clear(self) -> None:
        """Let go of all."""
        self._batches.clear()

    def reaches(self, num_batches: float) -> bool:
        """Whether a batch now may still be among those of a look that comes that many batches later."""
        rows = max((rows for _, rows in self._batches), default=1)
        return num_batches * max(rows, 1) <= self._needed

    def add(self, batch: Any, num_rows: int) -> None:
        """Keep a batch, and let go of those that are no longer needed."""
        self._batches.appendleft((batch, num_rows))
        while sum(rows for _, rows in self._batches) - self._batches[-1][1] >= self._needed:
            self._batches.pop()

    def take(self) -> list[tuple[Any, Sequence[int]]]:
        """The batches of a look and their rows on this rank, the latest first; all ranks take part."""
        own = torch.tensor([rows for _, rows in self._batches], dtype=torch.long)
        counts = torch.zeros(world_size(), max(row_places(own).counts), dtype=torch.long)
        counts[rank(), : len(own)] = own
        counts = all_sum(counts)  # (W, batches)
        ends = counts.sum(0).cumsum(0)
        num_batches = int((ends < self._needed).sum()) + 1
        # all rows in one order: batch by batch, rank by rank
        everyone = counts.mT.flatten()
        firsts = (everyone.cumsum(0) - everyone).reshape(counts.mT.shape)[:, rank()]
        total = int(ends[:num_batches][-1])
        chosen = spread(self._num_samples, total)
        is_chosen = torch.zeros(total, dtype=torch.bool)
        is_chosen[list(chosen)] = True
        return [
            (batch, is_chosen[first : first + rows].nonzero().flatten().tolist())
            for (batch, rows), first in zip(list(self._batches)[:num_batches], firsts.tolist(), strict=False)
        ]
