"""Pictures of a look, for the loggers that take them."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor


def log_pictures(trainer: Trainer, pictures: Mapping[str, Tensor]) -> None:
    """Hand pictures to every logger that has `log_image` (Weights & Biases) or `add_image` (TensorBoard).

    Args:
        trainer: The trainer whose loggers get them, on its first rank.
        pictures: By key, (1 or 3, height, width) in [0, 1].
    """
    if not trainer.is_global_zero:
        return
    loggers: list[Any] = trainer.loggers
    for logger in loggers:
        for key, picture in pictures.items():
            if hasattr(logger, "log_image"):
                array = (255 * picture).byte().permute(1, 2, 0).cpu().numpy()
                logger.log_image(
                    key, [array.squeeze(2) if array.shape[2] == 1 else array], step=trainer.global_step
                )
            elif hasattr(getattr(logger, "experiment", None), "add_image"):
                logger.experiment.add_image(key, picture.cpu(), trainer.global_step)
