"""When a diagnostic looks."""

import itertools
import math
from collections.abc import Iterable

from lightning.pytorch import Trainer

from lightning_ssl_theory.checks import InputError, check_integer


class Cadence:
    """Every n optimiser steps or every n epochs.

    A look is due when the number of completed periods has grown, so that several optimisers, gradient accumulation
    and a resumed run neither repeat nor lose one.

    Args:
        every_n_steps: Period in optimiser steps.
        every_n_epochs: Period in epochs; 1 where neither is given.

    Raises:
        InputError: If both are given or one is below 1.
    """

    def __init__(self, every_n_steps: int | None, every_n_epochs: int | None) -> None:
        if every_n_steps is not None and every_n_epochs is not None:
            raise InputError(
                f"Expected one of `every_n_steps` and `every_n_epochs`, got {every_n_steps} and {every_n_epochs}; "
                "leave one out."
            )
        for name, value in {"every_n_steps": every_n_steps, "every_n_epochs": every_n_epochs}.items():
            check_integer(value, name, advice="leave the callback out to never look", or_none=True)
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs if every_n_steps or every_n_epochs else 1
        self.last_step = 0

    def is_step_due(self, global_step: int) -> bool:
        """Whether a period of steps has been completed since the last look."""
        period = self.every_n_steps
        return period is not None and global_step // period > self.last_step // period

    def is_epoch_due(self, epoch: int) -> bool:
        """Whether the epoch with this index, from 0, ends a period."""
        return self.every_n_epochs is not None and (epoch + 1) % self.every_n_epochs == 0

    def num_batches_ahead(self, trainer: Trainer, batch_index: int) -> float:
        """How many batches later the next look at training batches comes, at the earliest."""
        if self.every_n_steps is not None:
            steps = self.every_n_steps - trainer.global_step % self.every_n_steps
            return steps * trainer.accumulate_grad_batches / max(1, len(trainer.optimizers))
        if trainer.enable_validation:
            return math.inf
        return (
            0 if trainer.num_training_batches == math.inf else trainer.num_training_batches - batch_index - 1
        )

    def meets(self, epochs: Iterable[int]) -> bool:
        """Whether one of the epochs, from 0, ends a period."""
        return any(self.is_epoch_due(epoch) for epoch in epochs)


def validated_epochs(trainer: Trainer) -> Iterable[int]:
    """The epochs of the run, from 0, in which validation runs, or all where nothing is validated.

    A run that was resumed has had its first epochs before.

    Args:
        trainer: At the start of training.

    Returns:
        Them; endless where the run has no last epoch.
    """
    if trainer.max_epochs is None or trainer.max_epochs < 0:
        return itertools.count()
    epochs = range(trainer.max_epochs)
    if not trainer.enable_validation:
        return epochs
    every, num_batches = trainer.check_val_every_n_epoch, trainer.num_training_batches
    if every is not None:
        return [epoch for epoch in epochs if (epoch + 1) % every == 0]
    interval = trainer.val_check_batch
    if interval is None or math.inf in (interval, num_batches):
        return epochs
    last, every = trainer.max_epochs * int(num_batches), int(interval)
    return [(batch - 1) // int(num_batches) for batch in range(every, last + 1, every)]
