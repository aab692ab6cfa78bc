"""What every run of the command line starts with: its folder, its loggers and its standing callbacks."""

import csv
import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lightning_ssl_theory.cli.wandb_run import WandbMode, wandb_logger
from lightning_ssl_theory.report import RunReport
from lightning_ssl_theory.report.logged_run import METRICS_FILE, RunFolderError


def free_folder(output_dir: Path | str, name: str) -> Path:
    """A run folder that holds no run yet: `name`, or `name-2`, `name-3`, … in the output folder.

    Args:
        output_dir: Where run folders lie; made if it is missing.
        name: What the run is to be called.

    Returns:
        The folder, which exists.

    Raises:
        RunFolderError: When the folder cannot be made or written.
    """
    candidates = (Path(output_dir) / (name if n == 1 else f"{name}-{n}") for n in count(1))
    # the processes that a launcher starts after the first one must not take its folder for an older run
    is_first = getattr(rank_zero_only, "rank", 0) == 0
    folder = next(path for path in candidates if not is_first or not _holds_run(path))
    if folder.name != name:
        print(f"{Path(output_dir) / name} holds a run already; this one goes to {folder}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"Expected to be able to make the run folder `{folder}`, found: {error.strerror}; "
            "choose another place with --output-dir."
        ) from error
    if not os.access(folder, os.W_OK):
        raise RunFolderError(
            f"Expected a run folder that can be written, found `{folder}` read-only; "
            "choose another place with --output-dir."
        )
    return folder


def run_loggers(folder: Path, wandb: WandbMode, *, group: Path | None = None) -> list[Logger]:
    """metrics.csv in the run folder, and Weights & Biases as asked for.

    Args:
        folder: The run folder.
        wandb: "online" falls back to "offline" when nobody is logged in or the server cannot be reached.
        group: A folder of several runs whose Weights & Biases files are to lie together, and that names them.

    Returns:
        The loggers; with "off" the first one alone, and wandb is not imported.
    """
    csv = CSVLogger(folder.parent, name=folder.name, version="", flush_logs_every_n_steps=1)
    if wandb == "off":
        return [csv]
    name = folder.name if group is None else f"{group.name}/{folder.name}"
    return [csv, wandb_logger(wandb, name=name, save_dir=group or folder)]


def run_callbacks(
    folder: Path,
    given: Iterable[Callback] = (),
    *,
    has_checkpoints: bool = True,
    has_progress_bar: bool = True,
) -> list[Callback]:
    """Progress bar, checkpoints and report, as far as the given callbacks do not hold their like.

    Args:
        folder: The run folder.
        given: Callbacks the user has asked for.
        has_checkpoints: Whether checkpoints are written.
        has_progress_bar: Whether progress is shown.

    Returns:
        The callbacks to add; the newest state is kept in checkpoints/last.ckpt, at the end of every epoch.
    """
    given = list(given)
    path = folder / "checkpoints"
    standing: list[Callback] = []
    if has_progress_bar and not any(isinstance(callback, ProgressBar) for callback in given):
        standing.append(_ProgressBar())
    if has_checkpoints:
        if not any(isinstance(callback, ModelCheckpoint) for callback in given):
            name = "{epoch}-{step}"
            standing.append(
                ModelCheckpoint(path, filename=name, save_last=True, save_on_train_epoch_end=True)
            )
        standing.append(_InterruptCheckpoint(path / "interrupted.ckpt"))
    if not any(isinstance(callback, RunReport) for callback in given):
        standing.append(RunReport())
    return standing


def continue_metrics(logger: CSVLogger, checkpoint: Path) -> None:
    """Start metrics.csv with the rows that a run had logged when it wrote a checkpoint.

    Args:
        logger: The logger of the run that continues.
        checkpoint: A checkpoint in `<run folder>/checkpoints`; one that lies elsewhere has no rows.
    """
    path = checkpoint.resolve().parent.parent / METRICS_FILE
    if getattr(rank_zero_only, "rank", 0) != 0 or not path.is_file():
        return
    last_step = torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"]
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            values: dict[str, Any] = {k: float(v) for k, v in row.items() if v and k != "step"}
            if int(row["step"]) <= last_step:
                logger.log_metrics(values, step=int(row["step"]))


def finish_loggers(loggers: Iterable[Logger], *, is_success: bool) -> None:
    """Close Weights & Biases runs, so that their files are whole and the next run gets one of its own.

    Args:
        loggers: A Trainer's loggers.
        is_success: What the closed runs are marked as.
    """
    for logger in loggers:
        finish: Any = getattr(getattr(logger, "_experiment", None), "finish", None)
        if finish is not None:
            finish(exit_code=int(not is_success))


class _ProgressBar(RichProgressBar):
    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Returns what is shown beside the bar: not the loggers' version numbers."""
        return {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}


class _InterruptCheckpoint(Callback):
    """Saves the state at which a fit was stopped by Ctrl-C, or by an error on one process alone.

    Lightning's OnExceptionCheckpoint would also resume from an older checkpoint unasked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save, where every process does."""
        # on several processes saving waits for all of them, and an error may have met one only
        can_save = isinstance(exception, KeyboardInterrupt) or trainer.world_size == 1
        if can_save and trainer.state.fn == "fit" and trainer.global_step > 0:
            trainer.save_checkpoint(self._path)


def _holds_run(folder: Path) -> bool:
    return (folder / METRICS_FILE).exists() or any(folder.glob(f"*/{METRICS_FILE}"))
