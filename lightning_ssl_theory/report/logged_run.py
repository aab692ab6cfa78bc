"""A logged run, read back from its folder: metrics.csv, the settings, run.json and the runs it contains."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_ssl_theory.report.keys import Key, parse_key

METRICS_FILE = "metrics.csv"
SETTINGS_FILES = ("config.yaml", "hparams.yaml")
RUN_FILE = "run.json"
_TOO_LARGE = 1e300


class RunFolderError(ValueError):
    """A folder is no run folder, or the report cannot be written there; the sentence says what to do."""


@dataclass(frozen=True)
class Series:
    """One logged key over training.

    Attributes:
        column: The key as logged.
        key: The same, taken apart.
        steps: Optimizer steps, increasing.
        values: Finite values, as many as `steps`.
        num_skipped: Values that were NaN, beyond 1e300 or no number and are left out.
    """

    column: str
    key: Key
    steps: tuple[float, ...]
    values: tuple[float, ...]
    num_skipped: int

    @property
    def first(self) -> float:
        """The earliest value."""
        return self.values[0]

    @property
    def last(self) -> float:
        """The latest value."""
        return self.values[-1]


@dataclass(frozen=True)
class Run:
    """Everything the report shows of one run.

    Attributes:
        folder: The run folder.
        series: Keys in the order of metrics.csv's columns; those without a finite value are in `empty`.
        empty: Keys that were logged without one finite value.
        settings: Name and text of config.yaml and hparams.yaml, as far as they are there.
        facts: What run.json says: status, seconds, versions.
        parts: The runs in this folder's sub-folders.
    """

    folder: Path
    series: dict[str, Series] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Run, ...] = ()

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    def section(self, name: str) -> list[Series]:
        """Returns the series of one section, in the order of metrics.csv."""
        return [series for series in self.series.values() if series.key.section == name]

    def quantity(self, section: str, name: str) -> list[Series]:
        """Returns one quantity at every layer it was logged for."""
        return [series for series in self.section(section) if series.key.name == name]


def read_run(folder: Path | str) -> Run:
    """The run in a folder, with the runs in its sub-folders.

    Args:
        folder: A folder with a metrics.csv, or one whose sub-folders have one.

    Returns:
        The run, its sub-runs in the order they were started.

    Raises:
        RunFolderError: The folder is missing, or neither it nor a sub-folder holds a metrics.csv with values.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunFolderError(
            f"Expected a run folder at `{folder}`, found {'a file' if folder.exists() else 'nothing'}; "
            "pass the folder that holds metrics.csv, such as runs/demo."
        )
    inside = sorted(path for path in folder.iterdir() if (path / METRICS_FILE).is_file())
    parts = tuple(sorted((_read_one(path) for path in inside), key=_started))
    run = _read_one(folder, parts)
    if not run.series and not any(part.series for part in parts):
        found = "one without values" if (folder / METRICS_FILE).is_file() else "none"
        raise RunFolderError(
            f"Expected `{folder}` or its sub-folders to hold a {METRICS_FILE}, found {found}; "
            "train with Lightning's CSVLogger writing there."
        )
    return run


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv that are whole.

    A last line without its end, and lines with more or fewer cells than the header, were cut while they were
    written: they may end in the middle of a number, and are left out.

    Args:
        path: The file; one that cannot be read has no rows.

    Returns:
        For each row the columns it has a value for.
    """
    try:
        whole, _, _ = path.read_bytes().rpartition(b"\n")  # the end of a line may be cut in two
    except OSError:
        return []
    lines = _lines(whole.decode(errors="replace"))
    header = next(lines, [])
    return [
        {column: cell for column, cell in zip(header, line, strict=True) if cell}
        for line in lines
        if len(line) == len(header)
    ]


def _lines(text: str) -> Iterator[list[str]]:
    reader = csv.reader(text.splitlines())
    while True:
        try:
            yield next(reader)
        except csv.Error:  # a field beyond the limit, in a file that something else wrote
            continue
        except StopIteration:
            return


def _read_one(folder: Path, parts: tuple[Run, ...] = ()) -> Run:
    series, empty = _read_metrics(folder / METRICS_FILE)
    settings = {name: _read_text(folder / name) for name in SETTINGS_FILES}
    return Run(
        folder=folder,
        series=series,
        empty=empty,
        settings={name: text for name, text in settings.items() if text.strip() not in {"", "{}"}},
        facts=_read_facts(folder / RUN_FILE),
        parts=parts,
    )


def _started(run: Run) -> tuple[bool, str, str]:
    started = str(run.facts.get("started", ""))
    return (not started, started, run.name)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_facts(path: Path) -> dict[str, Any]:
    text = _read_text(path) or "{}"
    try:
        facts = json.loads(text, parse_int=_whole, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _read_metrics(path: Path) -> tuple[dict[str, Series], tuple[str, ...]]:
    cells: dict[str, dict[float, float]] = {}
    skipped: dict[str, int] = {}
    for row_number, row in enumerate(read_rows(path)):
        step = _number(row.get("step"))
        position = float(row_number) if step is None else step
        for column, cell in row.items():
            if column in {"step", "epoch"}:
                continue
            value = _number(cell)
            points = cells.setdefault(column, {})
            if value is None:
                skipped[column] = skipped.get(column, 0) + 1
            else:
                points[position] = value
    series = {
        column: Series(
            column,
            parse_key(column),
            tuple(sorted(points)),
            tuple(points[step] for step in sorted(points)),
            skipped.get(column, 0),
        )
        for column, points in cells.items()
        if points
    }
    return series, tuple(column for column, points in cells.items() if not points)


# A finite number whose differences do not overflow, else None.
def _number(cell: object) -> float | None:
    try:
        value = float(str(cell))
    except ValueError:
        return None
    return value if abs(value) < _TOO_LARGE else None


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) < 20 else None
