"""The loader whose batches validation sees first."""

from typing import Any

from lightning.pytorch import Trainer


def first_validation_loader(trainer: Trainer) -> Any:
    """This rank's first validation loader, with the sampler that Lightning gave it.

    Args:
        trainer: The trainer that runs.

    Returns:
        The loader, of `trainer.validate` while that runs, else of `trainer.fit`; `None` where there is none.
    """
    loop = trainer.validate_loop if trainer.state.fn == "validate" else trainer.fit_loop.epoch_loop.val_loop
    combined = loop._combined_loader  # the public trainer.val_dataloaders is fit's during a later validate
    return None if combined is None else combined.flattened[0]
