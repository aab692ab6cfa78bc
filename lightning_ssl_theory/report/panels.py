"""The parts that the page of a run and that of several share: sections, anchors, facts and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lightning_ssl_theory.report.figures import Figure, is_band, overlay_figure
from lightning_ssl_theory.report.findings import Finding
from lightning_ssl_theory.report.highlights import TITLES, highlights
from lightning_ssl_theory.report.keys import Section
from lightning_ssl_theory.report.logged_run import Run


class Panel(NamedTuple):
    """One section of the page.

    Attributes:
        target: Its anchor.
        title: Its heading.
        figures: Figures with their anchors.
        about: What it is and what good looks like; None for sections that no callback writes.
        said: What the rules say of it in this run.
        intro: A line where `about` is None.
        sizes: Sizes that did not change.
    """

    target: str
    title: str
    figures: Sequence[tuple[str, Figure]]
    about: Section | None = None
    said: Sequence[Finding] = ()
    intro: str = ""
    sizes: Sequence[str] = ()


def overlays(runs: Sequence[Run], columns: Iterable[str]) -> list[Figure]:
    """One chart for every key that at least two runs logged.

    Args:
        runs: The runs, which keep their colours in all charts.
        columns: Keys.

    Returns:
        The charts, in the order of the keys.
    """
    colours = {run.name: number for number, run in enumerate(runs)}
    figures = []
    for column in columns:
        found = {run.name: (run, run.series[column]) for run in runs if column in run.series}
        if len(found) > 1 and not any(is_band(run, series) for run, series in found.values()):
            figures.append(overlay_figure(found, colours))
    return figures


def anchored(target: str, figures: Iterable[Figure]) -> list[tuple[str, Figure]]:
    """Figures with anchors that hold letters, digits, dots and dashes, whatever a key is called.

    Args:
        target: Anchor of their section.
        figures: The figures.

    Returns:
        Each with an anchor of its own.
    """
    found: dict[str, Figure] = {}
    for figure in figures:
        stem = anchor = f"{target}-{re.sub(r'[^A-Za-z0-9_.]+', '-', figure.name)}"
        number = 1
        while anchor in found:
            number += 1
            anchor = f"{stem}-{number}"
        found[anchor] = figure
    return list(found.items())


def facts(run: Run) -> list[tuple[str, str]]:
    """What run.json says of a run, in a few words.

    Args:
        run: The run.

    Returns:
        Names and values; a value may stand for itself.
    """
    items = []
    if status := run.facts.get("status"):
        items.append(("", str(status)))
    if started := run.facts.get("started"):
        items.append(("started", str(started)))
    if isinstance(seconds := run.facts.get("seconds"), int | float):
        items.append(("took", _duration(seconds)))
    if run.last_step is not None:
        items.append(("last step", f"{run.last_step:,.0f}"))
    for name in ("parameters", "device", "processes", "torch", "lightning"):
        value = run.facts.get(name)
        if value and not (name == "processes" and value == 1):
            items.append((name, f"{value:,}" if isinstance(value, int) else str(value)))
    return items


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def side_by_side(runs: Sequence[Run], figures: Sequence[tuple[str, Figure]]) -> dict[str, object]:
    """Key quantities of several runs: what the template of a comparison shows.

    Args:
        runs: The runs.
        figures: Charts of several runs, with their anchors.

    Returns:
        Names, rows of the table, and figures.
    """
    rows: dict[str, dict[str, tuple[str, str | None]]] = {}
    for run in runs:
        for item in highlights(run):
            was = item.first if len(item.values) > 1 else None
            rows.setdefault(item.title, {}).setdefault(run.name, (item.last, was))
    return {
        "names": [run.name for run in runs],
        "rows": [(title, rows[title]) for title in sorted(rows, key=TITLES.index)],
        "figures": figures,
    }
