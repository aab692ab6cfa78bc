"""From a run folder to its report.html."""

from __future__ import annotations

from pathlib import Path

from lightning_ssl_theory.report.logged_run import RunFolderError, read_run
from lightning_ssl_theory.report.page import render_report

REPORT_FILE = "report.html"


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
    page = render_report(read_run(folder))
    path = Path(output) if output is not None else Path(folder) / REPORT_FILE
    # written beside and moved, so that an older report is never left half overwritten
    unfinished = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(page, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise RunFolderError(
            f"Expected to be able to write `{path}`, found: {error.strerror}; choose a file with --output."
        ) from error
    return path
