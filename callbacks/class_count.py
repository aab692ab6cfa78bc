"""The number of classes of the data, where the user does not give it."""

from lightning.pytorch import Trainer


def class_count(trainer: Trainer, name: str) -> int:
    """The datamodule's `num_classes`.

    Args:
        trainer: The trainer that runs.
        name: The callback that asks.

    Returns:
        C.

    Raises:
        ValueError: If there is no datamodule that says it.
    """
    found = getattr(getattr(trainer, "datamodule", None), "num_classes", None)
    if found is None:
        raise ValueError(
            f"Expected `num_classes` for {name}, found neither the argument nor a datamodule with it; "
            f"pass {name}(num_classes=...)."
        )
    return int(found)
