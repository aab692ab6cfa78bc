"""The number of classes of the data, where the user does not give it, and that a look has found labels at all."""

import torch
from lightning.pytorch import Trainer

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.distributed import all_sum


def class_count(trainer: Trainer, name: str) -> int:
    """The datamodule's `num_classes`.

    Args:
        trainer: The trainer that runs.
        name: The callback that asks.

    Returns:
        C.

    Raises:
        InputError: If there is no datamodule that says it.
    """
    found = getattr(getattr(trainer, "datamodule", None), "num_classes", None)
    if found is None:
        raise InputError(
            f"Expected `num_classes` for {name}, found neither the argument nor a datamodule with it; "
            f"pass {name}(num_classes=...)."
        )
    return int(found)


def check_any_label(num_known: int) -> None:
    """Raise where no sample of a look has a label; all ranks take part.

    Args:
        num_known: How many labels this rank has seen that are not -1.

    Raises:
        InputError: If there is none on any rank.
    """
    if not int(all_sum(torch.tensor(num_known))):
        raise InputError(
            "Expected labels in the batches of a look, found none but -1; look at a labelled split, "
            "or find the labels by `read_batch=`."
        )
