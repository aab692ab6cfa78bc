"""What looks cost: their seconds, their share of the training time, and whether one more is affordable."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lightning_ssl_theory.distributed import all_sum, any_rank, rank, world_size


class Overhead:
    """The clock of a diagnostic.

    Args:
        most: Largest share of the training time that looks may take; `None` for any.
    """

    def __init__(self, most: float | None) -> None:
        self._most = most
        self.spent = 0.0
        self._look, self._last = 0.0, 0.0
        self._started = time.perf_counter()

    def start(self) -> None:
        """Training begins."""
        self.spent, self._started = 0.0, time.perf_counter()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """What is done inside belongs to the look."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._look += time.perf_counter() - start

    def end_look(self) -> None:
        """The look is over; the next begins at zero."""
        self.spent += self._look
        self._last, self._look = self._look, 0.0

    def is_affordable(self) -> bool:
        """Whether one more look stays below the largest share, as the first rank's clock says to all."""
        if self._most is None:
            return True
        # a look is taken to cost what the last one did, so that the share stays below the bound after it
        elapsed = time.perf_counter() - self._started + self._last
        is_spent = self.spent + self._last > self._most * elapsed
        return not any_rank(is_spent and rank() == 0)

    def values(self) -> tuple[float, float]:
        """Seconds and share of the time since training began, means over the ranks."""
        share = self.spent / (time.perf_counter() - self._started)
        seconds, share = (all_sum(torch.tensor([self.spent, share])) / world_size()).tolist()
        return seconds, share
