"""Ctrl-C and SIGTERM end a fit between two steps, on all processes together, with a checkpoint to go on from."""

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment

from lightning_ssl_theory.cli.resume_point import validation_is_due
from lightning_ssl_theory.distributed import all_sum, any_rank
from lightning_ssl_theory.report.write import is_full

_HINT = b"\nStopping after this step, with a checkpoint; once more stops at once.\n"


class Terminated(KeyboardInterrupt):
    """A fit was ended by SIGTERM."""


class StopSignals(Callback):
    """Saves the state at which a fit was stopped by Ctrl-C or SIGTERM, or by an error on one process alone.

    A signal may come in the middle of an optimiser step, or while one process waits for another: it is noted, and
    the processes agree to stop where all of them are between two steps, or two batches of a validation. A second
    signal stops the process at once, with the checkpoints it has.

    The signal by which SLURM announces the end of a job's time is noted likewise: Lightning's own handler, which saves
    and asks for the job to be started again, is called where all processes are between two steps.

    Lightning's OnExceptionCheckpoint would save wherever the process is, and resume from an older checkpoint unasked.

    Args:
        path: The checkpoint to write.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signal: int | None = None
        self._process = os.getpid()
        self._last_step, self._is_validation_even = 0, False
        self._requeue: Callable[[int, FrameType | None], Any] | None = None
        self._is_time_up = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen, from before a loader starts processes, which inherit it."""
        self._path = trainer.strategy.broadcast(self._path)
        self._signal, self._process, self._is_first = None, os.getpid(), trainer.is_global_zero
        self._listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen in place of Lightning, which waits for the other processes wherever SIGTERM finds it."""
        self._listen()
        self._listen_to_scheduler(trainer)
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if the optimiser has stepped, and what comes next is not the epoch's end."""
        has_stepped, self._last_step = trainer.global_step != self._last_step, trainer.global_step
        if has_stepped and (not trainer.is_last_batch or validation_is_due(trainer)):
            self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after an epoch."""
        self._stop_if_asked(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out whether all processes have as many batches, so that they may agree after each."""
        num_batches = float(sum(trainer.num_val_batches))
        is_other = num_batches * trainer.world_size != float(all_sum(torch.tensor(num_batches)))
        self._is_validation_even = not any_rank(is_other or math.isinf(num_batches))

    def on_validation_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        """Stop in the middle of a validation, which the continued run repeats as a whole."""
        if self._is_validation_even:
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after a validation."""
        self._stop_if_asked(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save after an error, where no other process has to take part."""
        can_save = trainer.world_size == 1 and self._signal is None
        can_save = can_save and not (isinstance(exception, OSError) and is_full(exception))
        if can_save and trainer.state.fn == "fit" and trainer.global_step > 0:
            trainer.save_checkpoint(self._path)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if self._requeue is not None and any_rank(self._is_time_up):
            self._is_time_up = False
            self._requeue(signal.SIGUSR1, None)  # training goes on until SLURM ends it
        if not any_rank(self._signal is not None):
            return
        is_terminated = any_rank(self._signal == signal.SIGTERM)
        if trainer.global_step > 0:
            trainer.save_checkpoint(self._path)
        raise Terminated if is_terminated else KeyboardInterrupt

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._note)
            # to SLURM's own requeueing SIGTERM means nothing
            if not SLURMEnvironment.detect():
                signal.signal(signal.SIGTERM, self._note)

    def _listen_to_scheduler(self, trainer: Trainer) -> None:
        environment = trainer._accelerator_connector.cluster_environment
        is_asked = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
        if not is_asked or threading.current_thread() is not threading.main_thread():
            return
        assert isinstance(environment, SLURMEnvironment)
        signum = environment.requeue_signal
        handler = None if signum is None else signal.getsignal(signum)
        if signum is not None and callable(handler):
            self._requeue = handler
            signal.signal(signum, self._note_end_of_time)

    def _note_end_of_time(self, signum: int, frame: FrameType | None) -> None:
        self._is_time_up = os.getpid() == self._process

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a loader's process, which ends with the main one
        if self._signal is not None:
            raise Terminated if signum == signal.SIGTERM else KeyboardInterrupt
        self._signal = signum
        if self._is_first:
            os.write(2, _HINT)  # print may have been interrupted


@contextmanager
def restored_signals() -> Iterator[None]:
    """Leave Ctrl-C and SIGTERM to whoever had them before; Lightning restores what it found in the middle of a run."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {signum: signal.getsignal(signum) for signum in signals}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for signum, handler in before.items():
                signal.signal(signum, handler)
