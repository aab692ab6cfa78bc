"""The names that a run has logged: scalars and pictures, from its folder or from Weights & Biases."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lightning_ssl_theory.report import RunFolderError, read_run
from lightning_ssl_theory.report.logged_run import METRICS_FILE

MAX_RUNS = 50
"""The newest runs of a project that are asked for their names."""
# wandb writes media/images/KEY_STEP_HASH.png
_MEDIA_NAME = re.compile(r"^(.+)_\d+_[0-9a-f]{16,}\.(?:png|table\.json)$")


class LoggedNames(NamedTuple):
    """What is to be shown.

    Attributes:
        scalars: Names of numbers.
        media: Names of images and tables; that of the table behind a curve ends in `_table`.
    """

    scalars: frozenset[str]
    media: frozenset[str]


def names_in_folder(folder: Path) -> LoggedNames:
    """The names in a run folder, or in one that holds several runs.

    Args:
        folder: With a metrics.csv, or with the files of offline runs at Weights & Biases, under `wandb/` or itself.

    Returns:
        Them, over all runs inside.

    Raises:
        RunFolderError: If nothing was logged there.
    """
    places = _wandb_runs(folder)
    scalars: set[str] = set()
    if not folder.is_dir() or _metrics_files(folder):
        read_run(folder)  # says what is wrong with it
        scalars = {name for file in _metrics_files(folder) for name in _columns(file)}
    else:
        for place in places:
            scalars |= _summary_names(place)
    if not scalars:
        raise RunFolderError(
            f"Expected `{folder}` to hold a {METRICS_FILE} or an offline run of Weights & Biases with values, found "
            "none; pass the folder of a run, such as runs/demo."
        )
    media = {name for place in places for name in _media_names(place / "files" / "media")}
    return LoggedNames(frozenset(scalars - media), frozenset(media))


def names_in_project(runs: Iterable[Any]) -> LoggedNames:
    """The names of the newest runs of a project.

    Args:
        runs: As `wandb.Api().runs` gives them.

    Returns:
        Them, of the first 50.
    """
    scalars: set[str] = set()
    media: set[str] = set()
    for _, run in zip(range(MAX_RUNS), runs, strict=False):
        for name, value in run.summary.items():
            if not name.startswith("_"):
                (media if _is_medium(value) else scalars).add(name)
    return LoggedNames(frozenset(scalars), frozenset(media))


def _metrics_files(folder: Path) -> list[Path]:
    return [file for pattern in ("", "*/") for file in folder.glob(f"{pattern}{METRICS_FILE}")]


# also of what was never finite, which Weights & Biases has too
def _columns(file: Path) -> set[str]:
    with file.open(encoding="utf-8", errors="replace", newline="") as opened:
        return set(next(csv.reader(opened), [])) - {"step", ""}


def _wandb_runs(folder: Path) -> list[Path]:
    return sorted(
        {
            file.parent
            for pattern in ("", "*/", "wandb/*/", "*/wandb/*/")
            for file in folder.glob(f"{pattern}*.wandb")
        }
    )


def _summary_names(place: Path) -> set[str]:
    command = ["wandb", "leet", "inspect", "--summary", "--json", str(place)]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        summary = json.loads(told)["summary"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return set()  # an older wandb, or a run that was cut
    return {name for name, value in summary.items() if not name.startswith("_") and not _is_medium(value)}


def _is_medium(value: Any) -> bool:
    # best values are dictionaries too
    return isinstance(value, dict) and "_type" in value


def _media_names(media: Path) -> set[str]:
    found = (
        _MEDIA_NAME.match(file.relative_to(media).as_posix().partition("/")[2]) for file in media.rglob("*")
    )
    return {match[1] for match in found if match is not None}
