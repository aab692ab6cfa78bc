"""What every run of the command line starts with: its folder, its loggers and its standing callbacks."""

import os
import platform
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import IO, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, RichProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lightning_ssl_theory.cli.checkpoints import CHECKPOINTS
from lightning_ssl_theory.cli.resume_point import ResumePoint
from lightning_ssl_theory.cli.run_metrics import RunMetrics
from lightning_ssl_theory.cli.stop_signals import StopSignals
from lightning_ssl_theory.cli.wandb_run import RunWandbLogger, WandbMode, wandb_logger
from lightning_ssl_theory.report import RunReport
from lightning_ssl_theory.report.logged_run import METRICS_FILE, RunFolderError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_LOCK_FILE = "run.lock"
_locks: dict[Path, IO[str]] = {}


def new_folder(output_dir: Path | str, name: str) -> Path:
    """A run folder of this process alone, without a run yet: `name`, or `name-2`, `name-3`, … in the output folder.

    Args:
        output_dir: Where run folders lie; made if it is missing.
        name: What the run is to be called.

    Returns:
        The folder, which exists. What is returned on other processes than the first is not to be relied on.

    Raises:
        RunFolderError: When the folder cannot be made or written.
    """
    candidates = (Path(output_dir) / (name if n == 1 else f"{name}-{n}") for n in count(1))
    # a run that starts at the same moment holds no values yet, but the lock
    folder = next(
        path for path in candidates if not is_first_process() or (_reserve(path) and not _holds_run(path))
    )
    if folder.name != name:
        print(f"{Path(output_dir) / name} holds a run already; this one goes to {folder}.")
    return folder


def run_of_name(output_dir: Path | str, name: str) -> Path:
    """The folder of a run that is to be continued.

    Args:
        output_dir: Where run folders lie.
        name: The run's.

    Returns:
        The folder, of this process alone.

    Raises:
        RunFolderError: When there is none, or another process is still writing to it.
    """
    folder = Path(output_dir) / name
    if not folder.is_dir():
        raise RunFolderError(
            f"Expected a run to continue in `{folder}`, found nothing; "
            "leave --ckpt_path out to start one, or pass the --name of the run."
        )
    if is_first_process() and not _reserve(folder):
        raise RunFolderError(
            f"Expected a run that has ended in `{folder}`, found one that another process goes on with "
            f"({_read_lock(folder)}); wait for it, or end it first."
        )
    return folder


def release_folders() -> None:
    """Let other processes have the run folders of this one, as they may when it ends."""
    while _locks:
        _locks.popitem()[1].close()


def is_first_process() -> bool:
    """Whether this is the process that writes to the run folder.

    Returns:
        False in the processes that a launcher starts after the first one.
    """
    return getattr(rank_zero_only, "rank", 0) == 0


# Whether this process has a folder to itself. The lock ends with the process, however it ends, and holds on a network
# file system too; processes that are forked do not inherit it.
def _reserve(folder: Path) -> bool:
    key = folder.resolve()
    if key in _locks:
        return True
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise RunFolderError(
            f"Expected to be able to make the run folder `{folder}` and write there, found: {error.strerror}; "
            "choose another place with the option for the output folder."
        ) from error
    if fcntl is not None:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.close()
            return False
        except OSError:
            pass  # a file system without locks
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}")
    file.flush()
    _locks[key] = file
    return True


def _read_lock(folder: Path) -> str:
    return (folder / _LOCK_FILE).read_text(encoding="utf-8", errors="replace")


def run_loggers(
    folder: Path, wandb: WandbMode, *, group: Path | None = None, is_continued: bool = False
) -> list[Logger]:
    """metrics.csv in the run folder, and Weights & Biases as asked for.

    Args:
        folder: The run folder.
        wandb: "online" falls back to "offline" when nobody is logged in or the server cannot be reached.
        group: A folder of several runs whose Weights & Biases files are to lie together, and that names them.
        is_continued: Whether the run at Weights & Biases that the folder holds is gone on with.

    Returns:
        The loggers; with "off" the first one alone, and wandb is not imported.
    """
    metrics = RunMetrics(folder)
    if wandb == "off":
        return [metrics]
    name = folder.name if group is None else f"{group.name}/{folder.name}"
    return [metrics, wandb_logger(wandb, name=name, save_dir=group or folder, is_continued=is_continued)]


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
    path = folder / CHECKPOINTS
    standing: list[Callback] = []
    if has_progress_bar and not any(isinstance(callback, ProgressBar) for callback in given):
        standing.append(_ProgressBar())
    if has_checkpoints:
        if not any(isinstance(callback, ModelCheckpoint) for callback in given):
            name = "{epoch}-{step}"
            standing.append(
                ModelCheckpoint(path, filename=name, save_last=True, save_on_train_epoch_end=True)
            )
        standing += [ResumePoint(), StopSignals(path / "interrupted.ckpt")]
    if not any(isinstance(callback, RunReport) for callback in given):
        standing.append(RunReport())
    return standing


def finish_loggers(loggers: Iterable[Logger], *, is_success: bool) -> None:
    """Close Weights & Biases runs, so that their files are whole and the next run gets one of its own.

    Args:
        loggers: A Trainer's loggers.
        is_success: What the closed runs are marked as.
    """
    for logger in loggers:
        if isinstance(logger, RunWandbLogger):
            logger.finish(is_success=is_success)


class _ProgressBar(RichProgressBar):
    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Returns what is shown beside the bar: not the loggers' version numbers."""
        return {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}


def _holds_run(folder: Path) -> bool:
    return (folder / METRICS_FILE).exists() or any(folder.glob(f"*/{METRICS_FILE}"))
