"""One look at a network: what it sees, what it measures, what it logs, and that it never disturbs training."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory.checks import (
    InputError,
    check_callable,
    check_flag,
    check_instance,
    check_number,
)
from lightning_ssl_theory.data.batch import read_images
from lightning_ssl_theory.distributed import failing_together, rank
from lightning_ssl_theory.tracing.inputs import num_rows
from lightning_ssl_theory.warnings import DiagnosticWarning

from . import monitors
from .metric_names import MetricNames
from .overhead import Overhead
from .pictures import Picture, is_picture_due, log_pictures, takes_pictures
from .quiet import sentence, undisturbed


class Look(Callback):
    """A look at the network: `observe` batches on every rank, then `measure` over all ranks, then tell the loggers.

    Values are logged as `<section>/<layer>/<quantity>` to every logger at the number of optimiser steps made so far,
    and to `trainer.callback_metrics`, where ModelCheckpoint and EarlyStopping find them; they are the same on every
    rank. A look that is left out clears its keys. `values` holds the latest ones. Lightning's own `log_dict` would drop
    what falls between two `log_every_n_steps`; it is used where `trainer.validate` returns the values. `left_out` says
    why layers of the last look could not be used, by path; each is warned of once.

    Args:
        strict: Whether a look that cannot be computed raises, instead of warning once and being left out.
        max_overhead: Largest share of the training time that looks may take; see `Overhead`.
        read_batch: Turns a batch of the user's own format into one that `lightning_ssl_theory.data.batch` knows.
        name: Tells several callbacks of one class apart; keys are then `<section>/<name>/<layer>/<quantity>`.
    """

    section: ClassVar[str]
    needs_images: ClassVar[bool] = True
    best: ClassVar[Mapping[str, str]] = {}
    """Whether the smallest or the largest value of a quantity is kept in a run's summary, "min" or "max"."""

    def __init__(
        self,
        *,
        strict: bool,
        max_overhead: float | None,
        read_batch: Callable[[Any], Any] | None,
        name: str | None,
    ) -> None:
        check_flag(strict, "strict")
        check_number(max_overhead, "max_overhead", "(0, 1]", advice="it is a share of the time", or_none=True)
        check_callable(read_batch, "read_batch", or_none=True)
        check_instance(name, "name", str, or_none=True)
        if name is not None and (not name or "/" in name):
            raise InputError(f"Expected `name` without a slash, got {name!r}; it becomes a part of the keys.")
        self._strict, self._read_batch, self._name = strict, read_batch, name
        self._overhead = Overhead(max_overhead)
        self.values: dict[str, float] = {}
        self.left_out: dict[str, str] = {}
        self._is_open = self._is_measured = False
        self._num_seen = 0
        self._failure: str | None = None
        self._found: dict[str, float | Tensor] | None = None
        self._warned: set[str] = set()
        self.metric_names = MetricNames(self.best)
        self._pictures: dict[str, Picture] = {}
        self._num_shown = 0

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ValueError, before anything runs, if the diagnostic cannot work with this module.

        Every rank holds every parameter of it whole; that is checked before.
        """

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

    def layers_of(self, pl_module: LightningModule) -> Collection[str]:
        """The layers whose keys are logged, where they are known."""
        return ()

    def close(self) -> None:
        """Let go of what the look holds, whether it ran through or failed; results stay."""

    def pictures(self) -> dict[str, Picture]:
        """Images, curves and tables of the look by `<layer>/<name>`, for loggers that take them."""
        return {}

    @property
    def _prefix(self) -> str:
        return self.section if self._name is None else f"{self.section}/{self._name}"

    def _read(self, batch: Any) -> Any:
        return batch if self._read_batch is None else self._read_batch(batch)

    def _num_rows(self, pl_module: LightningModule, batch: Any) -> int:
        with undisturbed(pl_module):
            try:
                return num_rows(read_images(self._read(batch)))
            except Exception as error:  # reported with the look, if one is due
                self._failure = sentence(error)
                return 0

    def _open(self, pl_module: LightningModule) -> None:
        self._is_open, self._num_seen, self._failure = True, 0, None
        self._found, self.left_out = None, {}
        with self._timed(pl_module), self._noting_failures(), failing_together(sentence):
            self.open(pl_module)

    def _feed(self, pl_module: LightningModule, batch: Any, choose: Callable[[int], Sequence[int]]) -> None:
        if self._failure is not None or not self.needs_images:
            return
        with self._timed(pl_module), self._noting_failures():
            batch = self._read(batch)
            size = num_rows(read_images(batch))
            rows = list(choose(size))
            self._num_seen += size
            if rows:
                self.observe(pl_module, batch, rows)

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_open, self._is_measured = False, True
        with self._timed(pl_module), self._noting_failures(), failing_together(sentence):
            if self._failure is not None:
                raise InputError(self._failure)
            found = self.measure(trainer, pl_module)
            # before the look closes, and no failure of a picture may end training
            is_shown = is_picture_due(self._num_shown) and takes_pictures(trainer)
            self._pictures = self.pictures() if is_shown else {}
            self._found = found
        self.close()

    def _tell(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_measured = False
        self._overhead.end_look()
        found, self._found = self._found, None
        pictures, self._pictures = self._pictures, {}
        if found is None:
            unknown = monitors.watched_keys(trainer, self._prefix) - trainer.callback_metrics.keys()
            monitors.clear(trainer, self.values.keys() | unknown)
            self.values = {}
            self._report(self._failure or "")
            return
        for name, reason in self.left_out.items():
            self._warn(f"{type(self).__name__} left out {name!r}: {reason}")
        values = {f"{self._prefix}/{key}": float(value) for key, value in found.items()}
        monitors.clear(trainer, self.values.keys() - values.keys())
        if not self.values and not self.left_out:
            monitors.drop_unknown(trainer, self._prefix, values)
        self.values = values
        own = type(self).__name__ if self._name is None else f"{type(self).__name__}/{self._name}"
        costs = zip(("seconds", "share"), self._overhead.values(), strict=True)
        costs_by_key = {f"overhead/{own}/{key}": value for key, value in costs}
        monitors.log(trainer, pl_module, self.values | costs_by_key, self.metric_names)
        if sentence_of_names := self.metric_names.sentence(own):
            self._warn(sentence_of_names)
        self._num_shown += 1
        log_pictures(trainer, {f"{self._prefix}/{key}": shown for key, shown in pictures.items()})

    def _report(self, failure: str) -> None:
        if self._strict:
            raise InputError(failure)
        self._warn(f"{type(self).__name__} left out a look. {failure}")

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            if rank() == 0:
                warnings.warn(message, DiagnosticWarning, stacklevel=2)

    @contextmanager
    def _timed(self, pl_module: LightningModule) -> Iterator[None]:
        with self._overhead.counted(), undisturbed(pl_module):
            yield

    @contextmanager
    def _noting_failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the user's forward may raise anything, and training goes on
            self._failure = sentence(error)
