"""The validation loader whose batches a diagnostic looks at."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import CombinedLoader

from lightning_ssl_theory.checks import InputError


class ValidationLoader(NamedTuple):
    """One of the loaders that validation runs over."""

    loader: Any
    """This rank's, with the sampler that Lightning gave it."""
    place: int
    """Its place among all."""
    key: int | str | None
    """Where its batches are in those of a CombinedLoader that gives them together; `None` where one comes at a time."""
    num_batches: float
    """How many of its batches are run on this rank."""

    def own(self, batch: Any, dataloader_idx: int) -> Any:
        """What of a batch is this loader's, or `None`."""
        if self.key is not None:
            return batch[self.key]
        return batch if dataloader_idx == self.place else None


def validation_loader(trainer: Trainer, which: int | str = 0) -> ValidationLoader | None:
    """A validation loader, of `trainer.validate` while that runs, else of `trainer.fit`.

    Before the first validation of a fit Lightning may not have asked for the loaders. They are then asked for without
    being kept, as the user wrote them, so that the Trainer's own request comes when it would have come.

    Args:
        trainer: The trainer that runs.
        which: Its index, or its name where the loaders are a dictionary.

    Returns:
        The loader, `None` where there is none.

    Raises:
        InputError: If no loader has the index or name.
    """
    loop = trainer.validate_loop if trainer.state.fn == "validate" else trainer.fit_loop.epoch_loop.val_loop
    combined = loop._combined_loader  # the public trainer.val_dataloaders is fit's during a later validate
    is_set_up = combined is not None
    if combined is None:
        if not trainer.enable_validation:
            return None
        given = loop._data_source.dataloader()
        combined = given if isinstance(given, CombinedLoader) else CombinedLoader(given, "sequential")
    loaders = combined.flattened
    is_named = isinstance(combined.iterables, Mapping)
    names: list[Any] = list(combined.iterables) if is_named else list(range(len(loaders)))
    index = names.index(which) if which in names else which
    if not isinstance(index, int) or not 0 <= index < len(loaders):
        raise InputError(
            f"Expected `val_loader` to be the {'name or ' if is_named else ''}index of a validation loader, of "
            f"{', '.join(map(repr, names))}, got {which!r}; choose one of them."
        )
    is_together = combined._mode != "sequential" and combined.iterables is not loaders[0]
    limits = loop.max_batches if is_set_up else math.inf
    num_batches = limits if isinstance(limits, int | float) else limits[index if index < len(limits) else 0]
    return ValidationLoader(loaders[index], index, names[index] if is_together else None, num_batches)


def is_last_batch(trainer: Trainer) -> bool:
    """Whether validation has come to its last batch on this rank."""
    loop = trainer.validate_loop if trainer.state.fn == "validate" else trainer.fit_loop.epoch_loop.val_loop
    return loop.batch_progress.is_last_batch
