"""What the small trainings of a reproduction share: seeds, a silent trainer, full batches, and a record of looks."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

Look = TypeVar("Look")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch draws from a seed inside, and goes on as before afterwards.

    Args:
        seed: Of everything drawn inside, such as first weights.

    Example:
        >>> with seeded(0):
        ...     first = torch.rand(1)
        >>> with seeded(0):
        ...     assert torch.rand(1) == first
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def quiet_trainer(*callbacks: Callback, **options: Any) -> Trainer:
    """A Lightning trainer that logs, saves and prints nothing and validates only where asked to; by default on the CPU.

    Args:
        *callbacks: Callbacks.
        **options: Other arguments of `lightning.pytorch.Trainer`.

    Returns:
        The trainer.
    """
    settings: dict[str, Any] = {"accelerator": "cpu", "num_sanity_val_steps": 0} | options
    return Trainer(
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


def full_batch_steps(module: LightningModule, views: Sequence[Tensor], num_steps: int) -> Iterator[int]:
    """Train on one batch of views, again and again, with the module's own `loss` and optimiser.

    Args:
        module: The module, called with a view.
        views: What `module.loss` compares.
        num_steps: Number of steps.

    Yields:
        0, then the number of steps made after each of them.
    """
    optimizer: Any = module.configure_optimizers()
    loss: Any = module.loss
    yield 0
    for step in range(1, num_steps + 1):
        optimizer.zero_grad()
        loss(*map(module, views)).backward()
        optimizer.step()
        yield step


class History(Callback, Generic[Look]):
    """What a function finds before, during and after training; to be given to the trainer after what it reads.

    Args:
        look: Called with trainer and module.
        steps: Numbers of optimiser steps at which it looks, 0 for before the first; by default it looks at the end of
            every validation.

    Attributes:
        looks: What it found, in order.
    """

    def __init__(self, look: Callable[[Trainer, Any], Look], *, steps: Container[int] | None = None) -> None:
        self._look, self._steps = look, steps
        self.looks: list[Look] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Look before the first step."""
        if trainer.global_step == 0:
            self._look_at(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Look after a step."""
        self._look_at(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the end of a validation."""
        if self._steps is None:
            self.looks.append(self._look(trainer, pl_module))

    def _look_at(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._steps is not None and trainer.global_step in self._steps:
            self.looks.append(self._look(trainer, pl_module))
