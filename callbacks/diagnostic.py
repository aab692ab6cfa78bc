"""What all diagnostics share: when they look, on which batches, what they log, and that they never disturb training."""

import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory.data.batch import read_images
from lightning_ssl_theory.distributed import all_sum, any_rank, first_message, rank, world_size
from lightning_ssl_theory.tracing.inputs import num_rows
from lightning_ssl_theory.tracing.plain_torch import preserved_random_state
from lightning_ssl_theory.warnings import DiagnosticWarning

from .cadence import Cadence
from .chosen_rows import chosen_rows, rank_share
from .pictures import log_pictures
from .validation_loader import first_validation_loader


class Diagnostic(Callback):
    """A look at the network, now and then: `observe` batches on every rank, then `measure` over all ranks.

    With `every_n_steps` a look sees the training batch of that step, and the first batch before any update. With
    `every_n_epochs` it sees the validation batches at the end of each n-th epoch, or, where `looks_at_training` is
    set or nothing is validated, the epoch's last training batch.

    Values are logged as `<section>/<layer>/<quantity>` to every logger at the number of optimiser steps made so far,
    and to `trainer.callback_metrics`, where ModelCheckpoint and EarlyStopping find them; they are the same on every
    rank. `values` holds the latest ones. Lightning's own `log_dict` would drop what falls between two
    `log_every_n_steps`; it is used where `trainer.validate` returns the values. `left_out` says why layers of the last
    look could not be used, by path; each is warned of once.

    Args:
        every_n_steps: Look every n optimiser steps.
        every_n_epochs: Look every n epochs; 1 where neither is given.
        num_samples: Most samples in a look, over all ranks; `None` for all. Of validation they are spread evenly.
        strict: Whether a look that cannot be computed raises, instead of warning once and being left out.
        max_overhead: Largest share of the training time that looks may take; a look that is due beyond it is left
            out, as rank 0 decides. Wall-clock time decides then, so the steps with looks are not reproducible.
        read_batch: Turns a batch of the user's own format into one that `lightning_ssl_theory.data.batch` knows.
    """

    section: ClassVar[str]
    looks_at_training: ClassVar[bool] = False
    needs_images: ClassVar[bool] = True

    def __init__(
        self,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int | None = None,
        num_samples: int | None = None,
        strict: bool = False,
        max_overhead: float | None = None,
        read_batch: Callable[[Any], Any] | None = None,
    ) -> None:
        if num_samples is not None and num_samples < 2:
            raise ValueError(
                f"Expected `num_samples` of at least 2, got {num_samples}; use None for all samples."
            )
        if max_overhead is not None and not 0 < max_overhead <= 1:
            raise ValueError(
                f"Expected `max_overhead` in (0, 1], got {max_overhead}; it is a share of the time."
            )
        self._cadence = Cadence(every_n_steps, every_n_epochs)
        self._num_samples, self._strict, self._max_overhead = num_samples, strict, max_overhead
        self._read_batch = read_batch or (lambda batch: batch)
        self.values: dict[str, float] = {}
        self._spent, self._last_seconds, self._started = 0.0, 0.0, time.perf_counter()
        self._is_open, self._num_seen, self._look_seconds = False, 0, 0.0
        self._failure: str | None = None
        self._warned: set[str] = set()
        self.left_out: dict[str, str] = {}

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ValueError, before anything runs, if the diagnostic cannot work with this module."""

    @abstractmethod
    def open(self, pl_module: LightningModule) -> None:
        """Forget the last look; all ranks take part."""

    @abstractmethod
    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Take in some rows of a batch of this rank.

        No collective may be called here, since ranks may have different numbers of batches; ValueError and
        TypeError lead to a warning.
        """

    @abstractmethod
    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """Values of the look by `<layer>/<quantity>`, reduced over all ranks; errors must be raised on all."""

    def pictures(self) -> dict[str, Tensor]:
        """Pictures of the look by `<layer>/<name>`, (1 or 3, height, width) in [0, 1], for loggers that take them."""
        return {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the arguments against the module, after its own `setup` and `configure_model`."""
        self.check(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the arguments where nothing is fitted."""
        if trainer.state.fn == "validate":
            self.check(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and make restored values visible to ModelCheckpoint and EarlyStopping."""
        self._spent, self._started = 0.0, time.perf_counter()
        _publish(trainer, self.values)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the untrained network."""
        looks_at_batches = self.looks_at_training or self._cadence.every_n_steps
        if looks_at_batches and trainer.global_step == 0 and batch_idx == 0 and trainer.current_epoch == 0:
            self._look(trainer, pl_module, batch)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at this batch if a look is due."""
        is_due = self._cadence.is_step_due(trainer.global_step)
        if (self.looks_at_training or not trainer.enable_validation) and trainer.is_last_batch:
            is_due = is_due or self._cadence.is_epoch_due(trainer.current_epoch)
        if is_due and self._is_affordable():
            self._look(trainer, pl_module, batch)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a look if one is due."""
        self._is_open = False  # a validation that broke off leaves one open
        if trainer.sanity_checking or self.looks_at_training:
            return
        is_fitting = trainer.state.fn == "fit"
        if not is_fitting or (self._cadence.is_epoch_due(trainer.current_epoch) and self._is_affordable()):
            self._open(pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in a batch of the first validation loader."""
        if self._is_open and dataloader_idx == 0:
            loader = first_validation_loader(trainer)
            (num_batches, *_) = trainer.num_val_batches

            def choose(size: int) -> Sequence[int]:
                return chosen_rows(
                    loader,
                    batch_idx,
                    size,
                    self._num_samples,
                    num_before=self._num_seen,
                    num_batches=num_batches,
                )

            self._feed(pl_module, batch, choose)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the look and log what it saw."""
        if self._is_open:
            self._close(trainer, pl_module)

    @property
    def seconds_spent(self) -> float:
        """Seconds that looks have taken on this rank since training began."""
        return self._spent

    @property
    def state_key(self) -> str:
        """Callbacks of one class with different arguments keep their states apart."""
        return self._generate_state_key(**self.identity())

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"every_n_steps": self._cadence.every_n_steps, "every_n_epochs": self._cadence.every_n_epochs}

    def state_dict(self) -> dict[str, Any]:
        """Values already reduced over ranks, and the step of the last look; an open look is not kept."""
        return {"values": dict(self.values), "last_step": self._cadence.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the values and the step of the last look."""
        self.values, self._cadence.last_step = dict(state_dict["values"]), state_dict["last_step"]

    def _look(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> None:
        self._open(pl_module)
        share = rank_share(self._num_samples)
        self._feed(pl_module, batch, lambda n: range(n if share is None else min(n, share)))
        self._close(trainer, pl_module)

    def _open(self, pl_module: LightningModule) -> None:
        self._is_open, self._num_seen, self._look_seconds, self._failure = True, 0, 0.0, None
        self.left_out = {}
        with self._undisturbed(pl_module):
            self.open(pl_module)

    def _feed(self, pl_module: LightningModule, batch: Any, choose: Callable[[int], Sequence[int]]) -> None:
        if self._failure is not None or not self.needs_images:
            return
        with self._undisturbed(pl_module):
            try:
                batch = self._read_batch(batch)
                size = num_rows(read_images(batch))
                rows = list(choose(size))
                self._num_seen += size
                if rows:
                    self.observe(pl_module, batch, rows)
            except Exception as error:  # the user's forward may raise anything, and training goes on
                self._failure = _sentence(error)

    def _close(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_open = False
        self._cadence.last_step = trainer.global_step
        values: dict[str, float | Tensor] = {}
        with self._undisturbed(pl_module):
            failure = first_message(self._failure)
            if failure is None:
                try:
                    values = self.measure(trainer, pl_module)
                except Exception as error:  # as above
                    failure = _sentence(error)
        self._spent += self._look_seconds
        self._last_seconds = self._look_seconds
        if failure is not None:
            self._report(failure)
            return
        for name, reason in self.left_out.items():
            self._warn(f"{type(self).__name__} left out {name!r}: {reason}")
        self.values = {f"{self.section}/{key}": float(value) for key, value in values.items()}
        _log(trainer, pl_module, self.values | self._overhead())
        log_pictures(trainer, {f"{self.section}/{key}": image for key, image in self.pictures().items()})

    def _report(self, failure: str) -> None:
        if self._strict:
            raise ValueError(failure)
        self._warn(f"{type(self).__name__} left out a look. {failure}")

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            if rank() == 0:
                warnings.warn(message, DiagnosticWarning, stacklevel=2)

    def _overhead(self) -> dict[str, float]:
        share = self._spent / (time.perf_counter() - self._started)
        seconds, share = (all_sum(torch.tensor([self._spent, share])) / world_size()).tolist()
        name = type(self).__name__
        return {f"overhead/{name}/seconds": seconds, f"overhead/{name}/share": share}

    def _is_affordable(self) -> bool:
        if self._max_overhead is None:
            return True
        # a look is taken to cost what the last one did, so that the share stays below the bound after it
        elapsed = time.perf_counter() - self._started + self._last_seconds
        is_spent = self._spent + self._last_seconds > self._max_overhead * elapsed
        return not any_rank(is_spent and rank() == 0)

    @contextmanager
    def _undisturbed(self, pl_module: LightningModule) -> Iterator[None]:
        start = time.perf_counter()
        try:
            with preserved_random_state(pl_module.device), _muted(pl_module):
                yield
        finally:
            self._look_seconds += time.perf_counter() - start


def _sentence(error: Exception) -> str:
    if isinstance(error, ValueError | TypeError) and str(error).startswith("Expected"):
        return str(error)  # one of ours
    return (
        f"Expected a look to run through, {type(error).__name__} was raised: {error}; pass `output=` that calls what "
        "takes the batch, `read_batch=` that gives what the network takes, or fewer `layers` or `num_samples`."
    )


@contextmanager
def _muted(pl_module: LightningModule) -> Iterator[None]:
    # what a forward logs in a look is not the user's curve
    modules = [module for module in pl_module.modules() if isinstance(module, LightningModule)]
    own = [{name: vars(module)[name] for name in _LOGS if name in vars(module)} for module in modules]
    for module in modules:
        vars(module).update(dict.fromkeys(_LOGS, _nothing))
    try:
        yield
    finally:
        for module, before in zip(modules, own, strict=True):
            for name in _LOGS:
                vars(module).pop(name, None)
            vars(module).update(before)


_LOGS: tuple[str, ...] = ("log", "log_dict")


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def _log(trainer: Trainer, pl_module: LightningModule, values: dict[str, float]) -> None:
    if trainer.state.fn != "fit":
        # equal on all ranks, so that the maximum changes nothing, and Lightning does not ask for it key by key
        pl_module.log_dict(values, sync_dist=True, reduce_fx="max")
        return
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)
    _publish(trainer, values)


def _publish(trainer: Trainer, values: dict[str, float]) -> None:
    tensors = {key: torch.tensor(value) for key, value in values.items()}
    trainer.callback_metrics.update(tensors)
    trainer.logged_metrics.update(tensors)
