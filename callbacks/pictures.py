"""Pictures, curves and tables of a look, for the loggers that take them: not too many, and not too large."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchvision.utils import make_grid

MAX_PICTURES, MAX_ROWS = 32, 200
"""Most pictures of a look, and most rows of a table; the rest is left out."""
CURVE_COLUMNS = ("k", "value")
"""The table behind a curve at Weights & Biases, which is called `<key>_table`."""
_NUM_OFTEN = 16


class Curve(NamedTuple):
    """Values at k = 1, 2, 3, …, such as a spectrum."""

    title: str
    values: tuple[float, ...]


class Table(NamedTuple):
    """Rows under named columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]


Picture = Tensor | Curve | Table
"""An image (1 or 3, height, width) in [0, 1], a curve or a table."""


def filter_grid(rows: Sequence[Tensor]) -> Tensor:
    """Filters side by side: zero as middle grey, the largest weight of a row as black or white.

    Args:
        rows: One or several times as many filters (n, 1 or 3, height, width), each set of a scale of its own.

    Returns:
        The image (3, height, width) in [0, 1], a row for each.
    """
    shown = [0.5 + 0.5 * row.float() / row.abs().max().clamp(min=1e-30) for row in rows]
    return make_grid(torch.cat(shown), nrow=len(rows[0]), padding=1)


def is_picture_due(num_before: int) -> bool:
    """Whether the look after so many others shows pictures: the first 16, then ever fewer.

    Of the looks from 16 to 31 every second one does, from 32 to 63 every fourth, and so on: n looks give about
    16 + 8 log2(n / 16) pictures, 5,000 looks 82.

    Args:
        num_before: Number of looks before this one.

    Returns:
        Whether it does.

    Example:
        >>> [n for n in range(24) if is_picture_due(n)][-4:]
        [16, 18, 20, 22]
    """
    return num_before % max(1, 2 ** (num_before.bit_length() - _NUM_OFTEN.bit_length() + 1)) == 0


def takes_pictures(trainer: Trainer) -> bool:
    """Whether some logger of a run has a place for images."""
    return any(hasattr(logger, "log_image") or _tensorboard(logger) is not None for logger in trainer.loggers)


def log_pictures(trainer: Trainer, pictures: Mapping[str, Picture]) -> None:
    """Hand pictures to every logger that takes them.

    Images go to those with `log_image` (Weights & Biases) or `add_image` (TensorBoard), curves and tables to those with
    `log_table` (Weights & Biases).

    Args:
        trainer: The trainer whose loggers get them, on its first rank.
        pictures: By key; those after the first 32 are left out, as are a table's rows after the first 200.
    """
    if not trainer.is_global_zero:
        return
    loggers: list[Any] = trainer.loggers
    for logger in loggers:
        for key, picture in list(pictures.items())[:MAX_PICTURES]:
            if isinstance(picture, Tensor):
                _log_image(logger, key, picture, trainer.global_step)
            elif hasattr(logger, "log_table"):
                _log_numbers(logger, key, picture, trainer.global_step)


def _tensorboard(logger: Any) -> Any:
    experiment = getattr(logger, "experiment", None)
    return experiment if hasattr(experiment, "add_image") else None


def _log_image(logger: Any, key: str, image: Tensor, step: int) -> None:
    if hasattr(logger, "log_image"):
        array = (255 * image).byte().permute(1, 2, 0).cpu().numpy()
        logger.log_image(key, [array.squeeze(2) if array.shape[2] == 1 else array], step=step)
    elif (writer := _tensorboard(logger)) is not None:
        writer.add_image(key, image.cpu(), step)


def _log_numbers(logger: Any, key: str, picture: Curve | Table, step: int) -> None:
    if isinstance(picture, Table):
        rows = [list(row) for row in picture.rows[:MAX_ROWS]]
        logger.log_table(key, columns=list(picture.columns), data=rows, step=step)
        return
    import wandb

    points = [[k, value] for k, value in enumerate(picture.values, start=1)]
    plot = wandb.plot.line(
        wandb.Table(columns=list(CURVE_COLUMNS), data=points), *CURVE_COLUMNS, title=picture.title
    )
    logger.log_metrics({key: plot}, step=step)
