"""When a diagnostic looks, and on which batches."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer

from lightning_ssl_theory.checks import InputError, check_instance, check_integer
from lightning_ssl_theory.tracing.frozen_call import check_whole

from . import monitors
from .cadence import Cadence, validated_epochs
from .chosen_rows import chosen_rows, rank_share
from .held_batches import HeldBatches
from .look import Look
from .validation_loader import is_last_batch, validation_loader


class Diagnostic(Look):
    """A look at the network, now and then; what a look is, and logs, `Look` says.

    With `every_n_epochs` a look is taken at the validation batches, at the end of each n-th epoch. With
    `every_n_steps`, and where nothing is validated, it is taken at the latest training batches, as many as are needed
    for `num_samples` samples, or for 256; all of them pass through the network as it is at the moment of the look. A
    look by steps is also taken at the first batch, before the first update. A diagnostic that sets
    `looks_at_training` takes one training batch only: that of the step, or the last of the epoch.

    A key that ModelCheckpoint, EarlyStopping or a scheduler watches is looked at in the first validation; a look that
    is left out counts as no improvement.

    Args:
        every_n_steps: Look every n optimiser steps.
        every_n_epochs: Look every n epochs; 1 where neither is given.
        num_samples: Most samples in a look, over all ranks; `None` for all. Those of validation are spread evenly over
            the set. For a look at training batches, these are kept in memory until the look is taken; saving a
            checkpoint drops them, so that a run that is resumed from it looks at the same batches as one that goes on.
        strict: Whether a look that cannot be computed raises, instead of warning once and being left out.
        max_overhead: Largest share of the training time that looks may take; a look that is due beyond it is left
            out, as rank 0 decides. Wall-clock time decides then, so the steps with looks are not reproducible.
        read_batch: Turns a batch of the user's own format into one that `lightning_ssl_theory.data.batch` knows.
        val_loader: Which of several validation loaders is looked at: its index, or its name in a dictionary.
        name: Tells several callbacks of one class apart; keys are then `<section>/<name>/<layer>/<quantity>`.
    """

    looks_at_training: ClassVar[bool] = False
    observes_training: ClassVar[bool] = True

    def __init__(
        self,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int | None = None,
        num_samples: int | None = None,
        strict: bool = False,
        max_overhead: float | None = None,
        read_batch: Callable[[Any], Any] | None = None,
        val_loader: int | str = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(strict=strict, max_overhead=max_overhead, read_batch=read_batch, name=name)
        check_integer(num_samples, "num_samples", at_least=2, advice="use None for all samples", or_none=True)
        check_instance(val_loader, "val_loader", (int, str))
        self._cadence = Cadence(every_n_steps, every_n_epochs)
        self._num_samples, self._val_loader = num_samples, val_loader
        self._is_due = False
        self._is_owed = False  # a monitor waits for the first values
        self._held = HeldBatches(num_samples)
        self._model: weakref.ref[LightningModule] | None = None

    def forget(self) -> None:
        """Forget the model before: another one comes."""
        self.values, self.left_out, self._warned = {}, {}, set()
        self._cadence.last_step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start anew with another model than before."""
        if self._model is not None and self._model() is not pl_module:
            self.forget()
        self._model = weakref.ref(pl_module)
        self._held.clear()
        self.metric_names.forget()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the arguments against the module, after its own `setup` and `configure_model`."""
        self._check_arguments(trainer, pl_module)
        for other in monitors.earlier(trainer, self):
            shared = sorted(set(self.layers_of(pl_module)) & set(other.layers_of(pl_module)))
            if other._prefix == self._prefix and shared:
                self._warn(
                    f"Expected keys of their own for two callbacks of {type(self).__name__}, both log "
                    f"'{self._prefix}/{shared[0]}/…'; give one of them a `name=`."
                )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the arguments where nothing is fitted, and that the loader is there."""
        if trainer.state.fn == "validate":
            self._check_arguments(trainer, pl_module)
        if not self.looks_at_training:
            validation_loader(trainer, self._val_loader)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and make restored values visible to ModelCheckpoint and EarlyStopping."""
        self._overhead.start()
        self._cadence.last_step = min(self._cadence.last_step, trainer.global_step)
        monitors.publish(trainer, self.values)
        self._is_owed = bool(monitors.prepare_monitors(trainer, self._prefix))
        if self._looks_at_epochs and not self._cadence.meets(validated_epochs(trainer)) and not self._is_owed:
            self._warn(
                f"{type(self).__name__} never looks. Expected a validation in an epoch that "
                f"`every_n_epochs={self._cadence.every_n_epochs}` ends, found none in {trainer.max_epochs} epochs; "
                "choose periods that meet, or `every_n_steps`."
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the untrained network."""
        looks_at_batches = self.looks_at_training or self._cadence.every_n_steps
        if looks_at_batches and trainer.global_step == 0 and batch_idx == 0 and trainer.current_epoch == 0:
            self._look(trainer, pl_module, batch)
            self._held.clear()  # it comes again, after its step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at this batch, and those before, if a look is due; keep it if one will be soon."""
        is_due = self._cadence.is_step_due(trainer.global_step)
        is_due = is_due or (self._is_owed and self._cadence.every_n_steps is not None)
        if (self.looks_at_training or not trainer.enable_validation) and trainer.is_last_batch:
            is_due = is_due or self._is_epoch_due(trainer)
        if is_due and self._is_affordable():
            self._look(trainer, pl_module, batch)
        elif self._gathers and self._held.reaches(self._cadence.num_batches_ahead(trainer, batch_idx)):
            self._held.add(batch, self._num_rows(pl_module, batch))
        else:
            self._held.clear()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See whether a look is due; it opens at the first batch, when every callback has done with the weights."""
        self._is_due = self._is_open = self._is_measured = (
            False  # a validation that broke off leaves one open
        )
        if trainer.sanity_checking or self.looks_at_training:
            return
        if trainer.state.fn != "fit" or (self._is_epoch_due(trainer) and self._is_affordable()):
            self._is_due = True

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Open a look that is due."""
        if self._is_due:
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
        """Take in a batch of the validation loader, and measure after the last, by the weights that it ran with."""
        source = validation_loader(trainer, self._val_loader) if self._is_open else None
        if source is None:
            return
        own = source.own(batch, dataloader_idx)
        if own is not None:

            def choose(size: int) -> Sequence[int]:
                return chosen_rows(
                    source.loader,
                    batch_idx,
                    size,
                    self._num_samples,
                    num_before=self._num_seen,
                    num_batches=source.num_batches,
                )

            self._feed(pl_module, own, choose)
        if is_last_batch(trainer) or (own is not None and batch_idx + 1 == source.num_batches):
            self._measure(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the look saw."""
        if self._is_due:
            self._open(pl_module)  # this rank has no batch
        if self._is_open:
            self._measure(trainer, pl_module)
        if self._is_measured:
            self._tell(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let go of the batches kept, as a run that resumes from here has none."""
        self._held.clear()

    @property
    def seconds_spent(self) -> float:
        """Seconds that looks have taken on this rank since training began."""
        return self._overhead.spent

    @property
    def state_key(self) -> str:
        """Callbacks of one class with different arguments keep their states apart."""
        named = {} if self._name is None else {"name": self._name}
        return self._generate_state_key(**self.identity(), **named)

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"every_n_steps": self._cadence.every_n_steps, "every_n_epochs": self._cadence.every_n_epochs}

    def state_dict(self) -> dict[str, Any]:
        """Values already reduced over ranks, and the step of the last look; an open look is not kept."""
        return {"values": dict(self.values), "last_step": self._cadence.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the values and the step of the last look."""
        self.values, self._cadence.last_step = dict(state_dict["values"]), state_dict["last_step"]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the model and batches, as processes that are spawned need it."""
        return vars(self) | {"_model": None, "_held": HeldBatches(self._num_samples)}

    # The sentence names the callback, as many have a layer, and the traceback ends here: the rest of it says no more.
    def _check_arguments(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_whole(pl_module)
        try:
            self.check(trainer, pl_module)
        except InputError as error:
            own, text = type(self).__name__, str(error)
            raise InputError(text if own in text else f"{own}: {text}") from None

    @property
    def _gathers(self) -> bool:
        return self.needs_images and self.observes_training and not self.looks_at_training

    @property
    def _looks_at_epochs(self) -> bool:
        return self._cadence.every_n_epochs is not None and not self.looks_at_training

    def _is_epoch_due(self, trainer: Trainer) -> bool:
        is_owed = self._is_owed and self._cadence.every_n_epochs is not None
        return is_owed or self._cadence.is_epoch_due(trainer.current_epoch)

    def _look(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> None:
        self._open(pl_module)
        if self._gathers:
            self._held.add(batch, self._num_rows(pl_module, batch))
            for held, rows in reversed(self._held.take()):
                self._feed(pl_module, held, lambda _, chosen=rows: chosen)  # type: ignore[misc]
        elif self.observes_training:
            share = rank_share(self._num_samples)
            self._feed(pl_module, batch, lambda n: range(n if share is None else min(n, share)))
        self._measure(trainer, pl_module)
        self._tell(trainer, pl_module)

    def _open(self, pl_module: LightningModule) -> None:
        self._is_due = self._is_owed = False
        super()._open(pl_module)

    def _tell(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._cadence.last_step = trainer.global_step
        if self._found is None:
            self._held.clear()  # what failed is not looked at again
        super()._tell(trainer, pl_module)

    def _is_affordable(self) -> bool:
        return self._is_owed or self._overhead.is_affordable()
