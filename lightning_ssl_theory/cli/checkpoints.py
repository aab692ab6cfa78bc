"""The checkpoint that a command starts from: which one, and whether it can be used."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import is_zipfile

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_ssl_theory.cli.resume_point import ROWS
from lightning_ssl_theory.report.logged_run import METRICS_FILE, RunFolderError
from lightning_ssl_theory.warnings import DiagnosticWarning

CHECKPOINTS = "checkpoints"
_NEEDED = {
    "fit": ("state_dict", "loops", "optimizer_states"),
    "validate": ("state_dict",),
    "test": ("state_dict",),
}


class Checkpoint(NamedTuple):
    """A checkpoint that was found to be usable.

    `num_rows` is the number of rows that its run had logged, as far as it says so.
    """

    path: Path
    step: int
    num_rows: int | None

    @property
    def metrics(self) -> Path:
        """The metrics.csv of its run, if it lies in a run folder."""
        folder = self.path.resolve().parent
        return (folder.parent if folder.name == CHECKPOINTS else folder) / METRICS_FILE


def newest_checkpoint(folder: Path, given: Iterable[Callback]) -> Checkpoint:
    """The checkpoint of a run folder that is furthest in training; files that cannot be used are named and passed over.

    Args:
        folder: The run folder.
        given: Callbacks of the run; where a ModelCheckpoint has a folder of its own, its files count too.

    Returns:
        The checkpoint with the highest step, of several the newest.

    Raises:
        RunFolderError: When there is none that training can go on from.
    """
    folders = {
        folder / CHECKPOINTS,
        folder,
    }  # Lightning puts what it saves for SLURM into the run folder itself
    folders |= {Path(call.dirpath) for call in given if isinstance(call, ModelCheckpoint) and call.dirpath}
    # without broken links
    paths = sorted(
        (path for place in folders for path in place.glob("*.ckpt") if path.is_file()), key=_modified
    )
    found, reasons = [], []
    for path in paths:
        try:
            found.append(read_checkpoint(path, "fit"))
        except RunFolderError as error:
            reasons.append(str(error))
    if not found:
        reason = f"only files that cannot be used; {reasons[-1]}" if reasons else "none"
        raise RunFolderError(
            f"Expected checkpoints in `{folder / CHECKPOINTS}` to go on from, found {reason}"
            f"{'' if reasons else '; leave --ckpt_path out to start the run, or pass its --name'}."
        )
    for reason in reasons:
        warnings.warn(f"A checkpoint is passed over. {reason}", DiagnosticWarning, stacklevel=2)
    return max(found, key=lambda checkpoint: (checkpoint.step, _modified(checkpoint.path)))


def read_checkpoint(path: Path, command: str | None) -> Checkpoint:
    """A checkpoint, once it is known that a command can start from it.

    Args:
        path: The file.
        command: "fit" needs more than weights.

    Returns:
        Where it stands in training.

    Raises:
        RunFolderError: When the file is missing, cut, no checkpoint of Lightning, or holds weights only.
    """
    if not path.is_file():
        raise RunFolderError(
            f"Expected a checkpoint at `{path}`, found {'a folder' if path.is_dir() else 'nothing'}; "
            "pass --ckpt_path an existing file, or `last`."
        )
    try:
        state: Any = torch.load(path, map_location="meta", weights_only=True)
    except PermissionError as error:
        raise RunFolderError(
            f"Expected to be able to read `{path}`, found: {error.strerror}; pass another --ckpt_path."
        ) from error
    except Exception as error:  # torch has an exception for every way in which a file can be broken
        raise RunFolderError(
            f"Expected a whole checkpoint at `{path}`, found one that torch does not read "
            f"({_first_line(error)}); pass another --ckpt_path."
        ) from error
    needed = ("state_dict", "loops", "optimizer_states") if command == "fit" else ("state_dict",)
    missing = [key for key in needed if not isinstance(state, dict) or key not in state]
    if "state_dict" in missing:
        raise RunFolderError(
            f"Expected a checkpoint of Lightning at `{path}`, found a file of another kind; "
            "pass --ckpt_path a file that a Trainer has written."
        )
    if missing:
        raise RunFolderError(
            f"Expected the state of training in `{path}`, found weights only; "
            "pass --ckpt_path a file written without `save_weights_only`."
        )
    rows = state.get(ROWS, {}).get("num_rows")
    return Checkpoint(path, int(state.get("global_step", 0)), rows)


def remove_cut(folder: Path) -> None:
    """Remove what a full disk has left of checkpoints.

    Args:
        folder: The run folder.
    """
    for path in (folder / CHECKPOINTS).glob("*.ckpt"):
        if path.is_file() and not is_zipfile(path):
            path.unlink()


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".")[:120] if text else type(error).__name__
