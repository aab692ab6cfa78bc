"""From a run folder to its report.html."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Sequence
from pathlib import Path

from lightning_ssl_theory.report.comparison import render_comparison
from lightning_ssl_theory.report.logged_run import RunFolderError, read_run, read_runs
from lightning_ssl_theory.report.page import render_report

REPORT_FILE = "report.html"
COMPARISON_FILE = "comparison.html"


def write_report(folder: Path | str, output: Path | str | None = None) -> Path:
    """Write the report of a run folder as one self-contained HTML file.

    Args:
        folder: A run folder, or a folder of run folders.
        output: The file to write; `report.html` in the run folder by default.

    Returns:
        The written file.

    Raises:
        RunFolderError: When the folder holds no run, or the file cannot be written.
    """
    return _write(
        render_report(read_run(folder)), Path(folder) / REPORT_FILE if output is None else Path(output)
    )


def write_comparison(folders: Sequence[Path | str], output: Path | str | None = None) -> Path:
    """Write several runs side by side as one self-contained HTML file.

    Args:
        folders: Run folders, or folders of run folders.
        output: The file to write; `comparison.html` in the current folder by default.

    Returns:
        The written file.

    Raises:
        RunFolderError: When a folder holds no run, one is named twice, or the file cannot be written.
    """
    return _write(render_comparison(read_runs(folders)), Path(COMPARISON_FILE if output is None else output))


def _write(page: str, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page)
    except OSError as error:
        help_ = (
            "make room on the disk" if is_full(error) else "pass another file as `output` (`report --output`)"
        )
        raise RunFolderError(
            f"Expected to be able to write `{path}`, found: {error.strerror}; {help_}."
        ) from error
    return path


def write_whole(path: Path, text: str) -> None:
    """Write a file or leave it as it was, whenever the process dies or the disk is full.

    Args:
        path: The file.
        text: What it is to hold.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
        unfinished.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def is_full(error: OSError) -> bool:
    """Whether a disk, a quota or a limit has no room left.

    Args:
        error: What writing raised.

    Returns:
        False for any other reason.
    """
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
