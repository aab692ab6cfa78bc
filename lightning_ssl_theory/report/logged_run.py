"""A logged run, read back from its folder: its rows, the settings, run.json and the runs it contains."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

from lightning_ssl_theory.report.keys import Key, parse_key
from lightning_ssl_theory.report.logged_rows import (
    METRICS_FILE,
    STEP_COLUMNS,
    Column,
    find_rows,
    read_columns,
)

SETTINGS_FILES = ("config.yaml", "hparams.yaml")
RUN_FILE = "run.json"
ERRORS = {"_error95": 1.0, "_stderr": 2.0}  # the second is what 0.1 logged, half as wide
_NO_VALUES = {"epoch", "_step", "_runtime", "_timestamp", *STEP_COLUMNS}
_TOO_LARGE = 1e300
# under which names modules log their training loss, ours first
LOSSES = tuple(
    f"{name}{end}" for end in ("", "_step", "_epoch") for name in ("train/loss", "train_loss", "loss")
)


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
        skipped: Steps of values that were NaN, beyond 1e300 or no number and are left out, increasing.
    """

    column: str
    key: Key
    steps: tuple[float, ...]
    values: tuple[float, ...]
    skipped: tuple[float, ...] = ()

    @property
    def first(self) -> float:
        """The earliest value."""
        return self.values[0]

    @property
    def last(self) -> float:
        """The latest value."""
        return self.values[-1]

    @property
    def last_step(self) -> float:
        """The last step at which it was logged, finite or not."""
        return max(self.steps[-1:] + self.skipped[-1:])


@dataclass(frozen=True)
class Run:
    """Everything the report shows of one run.

    Attributes:
        folder: The run folder.
        label: What tells it from others; the folder's own name unless two have the same.
        series: Keys in the order of metrics.csv's columns; those without a finite value are in `empty`.
        empty: Keys that were logged without one finite value.
        settings: Name and text of config.yaml and hparams.yaml, as far as they are there.
        facts: What run.json says: status, seconds, versions.
        parts: The runs in this folder's sub-folders.
    """

    folder: Path
    label: str = ""
    series: dict[str, Series] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Run, ...] = ()

    @property
    def name(self) -> str:
        """The label, else the folder's own name."""
        return self.label or self.folder.resolve().name

    def section(self, name: str) -> list[Series]:
        """Returns the series of one section, in the order of metrics.csv."""
        return [series for series in self.series.values() if series.key.section == name]

    def quantity(self, section: str, name: str) -> list[Series]:
        """Returns one quantity at every layer it was logged for."""
        return [series for series in self.section(section) if series.key.name == name]

    @property
    def last_step(self) -> float | None:
        """The last step at which anything was logged, finite or not; None without any."""
        return max((one.last_step for one in self.series.values()), default=None)

    def half_widths(self, series: Series) -> Sequence[float]:
        """Returns half the width of a series' 95 % interval at each of its steps, nothing where it was not logged."""
        for error, factor in ERRORS.items():
            found = self.series.get(series.column + error)
            if found and found.steps == series.steps:
                return [factor * value for value in found.values]
        return ()


def read_run(folder: Path | str) -> Run:
    """The run in a folder, with the runs in its sub-folders.

    Args:
        folder: A folder with a metrics.csv, one whose sub-folders have one, or one of an offline wandb run.

    Returns:
        The run, its sub-runs in the order they were started.

    Raises:
        RunFolderError: The folder is missing, or nothing in it holds values of a run.
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
        found = "one without values" if find_rows(folder) else "none"
        raise RunFolderError(
            f"Expected `{folder}` or its sub-folders to hold a {METRICS_FILE}, found {found}; "
            "train with Lightning's CSVLogger writing there, or an offline WandbLogger."
        )
    return run


def read_runs(folders: Sequence[Path | str]) -> tuple[Run, ...]:
    """Several runs, to be shown side by side.

    Args:
        folders: Run folders; of one that holds runs in sub-folders these are taken.

    Returns:
        The runs, with labels that tell them apart.

    Raises:
        RunFolderError: As `read_run`; and where a run is named twice.
    """
    runs = [read_run(folder) for folder in folders]
    shown = [one for run in runs for one in ((run,) if run.series else run.parts) if one.series]
    paths = [one.folder.resolve() for one in shown]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise RunFolderError(f"Expected different runs, found `{twice}` twice; name each run folder once.")
    return tuple(
        replace(one, label=label, parts=()) for one, label in zip(shown, _labels(paths), strict=True)
    )


# The shortest ends of the paths that are all different.
def _labels(paths: Sequence[Path]) -> list[str]:
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        labels = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    raise AssertionError("different paths have different parts")


def _read_one(folder: Path, parts: tuple[Run, ...] = ()) -> Run:
    rows = folder / METRICS_FILE if parts else find_rows(folder)  # wandb's file may hold those of the parts
    series, empty = _read_metrics(read_columns(rows)) if rows else ({}, ())
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


def _read_metrics(columns: Mapping[str, Column]) -> tuple[dict[str, Series], tuple[str, ...]]:
    step_column = next((columns[name] for name in STEP_COLUMNS if name in columns), Column((), ()))
    # a row without a step has its number
    steps = dict(zip(step_column.rows, _numbers(step_column.cells), strict=True))
    series, empty = {}, []
    last: tuple[Sequence[int], tuple[float, ...], bool] = (
        (),
        (),
        True,
    )  # most columns have the rows of the one before
    for name, (rows, cells) in columns.items():
        if name in _NO_VALUES or not cells:
            continue
        if rows != last[0]:
            found = tuple(step if (step := steps.get(row)) is not None else float(row) for row in rows)
            last = rows, found, all(before < after for before, after in pairwise(found))
        _, order, is_sorted = last
        if is_sorted and (numbers := _finite(cells)) is not None:
            series[name] = Series(name, parse_key(name), order, numbers)
            continue
        values = tuple(_numbers(cells))
        points = dict(zip(order, values, strict=True))  # of a step that comes again the later value
        if not is_sorted:
            order = tuple(sorted(points))
            values = tuple(points[step] for step in order)
        finite = tuple([value for value in values if value is not None])
        if len(finite) == len(values):
            series[name] = Series(name, parse_key(name), order, finite)
        elif finite:
            kept = tuple(step for step in order if points[step] is not None)
            skipped = tuple(step for step in order if points[step] is None)
            series[name] = Series(name, parse_key(name), kept, finite, skipped)
        else:
            empty.append(name)
    if loss := next((name for name in LOSSES if name in series), None):
        series[loss] = replace(series[loss], key=parse_key(LOSSES[0]))
    return series, tuple(empty)


def _numbers(texts: Sequence[str]) -> Sequence[float | None]:
    found = _finite(texts)
    return [_number(text) for text in texts] if found is None else found


# The numbers if all of them are what `_number` gives. A sum is not finite where any of its terms is not.
def _finite(texts: Sequence[str]) -> tuple[float, ...] | None:
    try:
        values = tuple(map(float, texts))
    except ValueError:
        return None
    is_finite = (
        isfinite(sum(values))
        and -_TOO_LARGE < min(values, default=0.0) <= max(values, default=0.0) < _TOO_LARGE
    )
    return values if is_finite else None


# A finite number whose differences do not overflow, else None.
def _number(cell: object) -> float | None:
    try:
        value = float(cell if isinstance(cell, str) else str(cell))
    except ValueError:
        return None
    return value if abs(value) < _TOO_LARGE else None


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) < 20 else None
