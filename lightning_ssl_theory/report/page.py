"""The whole report as one HTML page that needs no other file and no network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lightning_ssl_theory.report.chart import sparkline
from lightning_ssl_theory.report.figures import (
    Figure,
    constant_sizes,
    eigenvector_figure,
    filter_figure,
    is_band,
    overhead_figure,
    overlay_figure,
    section_figures,
)
from lightning_ssl_theory.report.filters import first_layer_eigenvectors, first_layer_filters
from lightning_ssl_theory.report.findings import Finding, findings
from lightning_ssl_theory.report.highlights import TITLES, highlights
from lightning_ssl_theory.report.keys import QUANTITIES, SECTIONS, Key, Section
from lightning_ssl_theory.report.logged_run import Run
from lightning_ssl_theory.report.templates import Markup, asset, rendered

_COMPARED = (
    ("collapse", "effective_rank"),
    ("orthogonality", "drift"),
    ("probe", "logistic_top1"),
    ("probe", "logistic_top1_10_labels"),
)
_MAX_CARDS = 10
MAX_SENTENCES = 6
_EACH = 2


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


def render_report(run: Run) -> str:
    """The report of a run, of its sub-runs, or of both.

    Args:
        run: What `read_run` returns.

    Returns:
        A complete HTML document.
    """
    parts = [part for part in run.parts if part.series]
    shown = ([_shown(run, "")] if run.series else []) + [
        _shown(part, f"run{number}-") for number, part in enumerate(parts, start=1)
    ]
    comparison = _comparison(parts, _shared(parts, _COMPARED)) if parts else None
    return str(
        rendered(
            "report.html",
            title=run.name,
            facts=_facts(run),
            comparison=comparison,
            worst=_worst(shown),
            runs=shown,
            is_single=bool(run.series),
            settings={} if run.series else run.settings,
            style=asset("style.css"),
            script=asset("script.js"),
        )
    )


def render_comparison(runs: Sequence[Run]) -> str:
    """Several runs side by side: what each says, and every key that two of them logged in one chart.

    Args:
        runs: What `read_runs` returns.

    Returns:
        A complete HTML document.
    """
    known = [section.name for section in SECTIONS if section.name != "overhead"]
    sections = [_overlaid(runs, name) for name in known]
    return str(
        rendered(
            "comparison.html",
            title=" · ".join(run.name for run in runs),
            comparison=_comparison(runs, ()),
            runs=[
                {"name": run.name, "colour": number % 8, "facts": _facts(run), "said": findings(run)[:3]}
                for number, run in enumerate(runs)
            ],
            panels=[panel for panel in sections if panel.figures],
            style=asset("style.css"),
            script=asset("script.js"),
        )
    )


# Of every run the worst, and the worst of them first.
def _worst(shown: Sequence[Mapping[str, Any]]) -> list[tuple[str, Finding, str | None]]:
    found = [(run["name"], *said) for run in shown for said in run["said"][:_EACH]]
    return sorted(found, key=lambda item: -item[1].severity)[:MAX_SENTENCES]


def _shown(run: Run, prefix: str) -> dict[str, Any]:
    said = findings(run)
    panels = _panels(run, prefix, said)
    anchors = {
        (panel.target.removeprefix(prefix), figure.name): anchor
        for panel in panels
        for anchor, figure in panel.figures
    }
    targets = {panel.target.removeprefix(prefix): panel.target for panel in panels}
    missing = _missing(run)
    if missing:
        targets["missing"] = f"{prefix}missing"
    links = [_link(finding, anchors, targets) for finding in said]
    return {
        "name": run.name,
        "target": prefix.rstrip("-"),
        "prefix": prefix,
        "facts": _facts(run),
        "said": list(zip(said, links, strict=True)),
        "num_sentences": MAX_SENTENCES,
        "cards": _cards(run),
        "panels": panels,
        "missing": missing,
        "settings": run.settings
        | ({"network": str(run.facts["network"])} if run.facts.get("network") else {}),
    }


# The curve, else its section; nothing where neither is on the page.
def _link(finding: Finding, anchors: Mapping[tuple[str, str], str], targets: Mapping[str, str]) -> str | None:
    return anchors.get((finding.section, finding.name)) or targets.get(finding.section)


def _panels(run: Run, prefix: str, said: Sequence[Finding]) -> list[Panel]:
    panels = []
    for section in SECTIONS:
        if section.name == "overhead":
            figures = [figure for figure in (overhead_figure(run),) if figure]
        else:
            figures = section_figures(run, section.name)
        if figures:
            target = f"{prefix}{section.name}"
            own = [finding for finding in said if finding.section == section.name]
            sizes = constant_sizes(run, section.name)
            panels.append(Panel(target, section.title, _anchored(target, figures), section, own, sizes=sizes))
    known = {section.name for section in SECTIONS}
    others = sorted({series.key.section for series in run.series.values()} - known)
    figures = [figure for name in others for figure in section_figures(run, name)]
    if figures:
        target = f"{prefix}other"
        intro = "Logged by something else."
        panels.append(Panel(target, "Other logged keys", _anchored(target, figures), intro=intro))
    filters = first_layer_filters(run.folder)
    if filters.images:
        figures = [filter_figure(filters)]
        eigenvectors = first_layer_eigenvectors(run.folder)
        figures += [eigenvector_figure(eigenvectors)] if eigenvectors.images else []
        target = f"{prefix}filters"
        intro = "What the first layer looks for."
        panels.append(Panel(target, "First layer", _anchored(target, figures), intro=intro))
    return panels


def _overlaid(runs: Sequence[Run], section: str) -> Panel:
    found = {series.column: series.key for run in runs for series in run.section(section)}
    shown = [column for column, key in found.items() if "eigenvalue" not in key.name or key.number == 1]
    columns = sorted(shown, key=lambda column: _rank(found[column]))
    about = next(one for one in SECTIONS if one.name == section)
    return Panel(section, about.title, _anchored(section, _overlays(runs, columns)), about)


def _shared(parts: Sequence[Run], compared: Iterable[tuple[str, str]]) -> list[tuple[str, Figure]]:
    columns = dict.fromkeys(
        series.column
        for section, name in compared
        for part in parts
        for series in part.quantity(section, name)
    )
    return _anchored("comparison", _overlays(parts, columns))


# In the order of the key table; of a spectrum the largest eigenvalue.
def _rank(key: Key) -> tuple[int, str]:
    return (QUANTITIES.index(key.quantity) if key.quantity else len(QUANTITIES), key.layer)


# One chart for every key that at least two runs logged.
def _overlays(runs: Sequence[Run], columns: Iterable[str]) -> list[Figure]:
    colours = {run.name: number for number, run in enumerate(runs)}
    figures = []
    for column in columns:
        found = {run.name: (run, run.series[column]) for run in runs if column in run.series}
        if len(found) > 1 and not any(is_band(run, series) for run, series in found.values()):
            figures.append(overlay_figure(found, colours))
    return figures


# Anchors hold letters, digits, dots and dashes, whatever a key is called.
def _anchored(target: str, figures: Iterable[Figure]) -> list[tuple[str, Figure]]:
    anchored: dict[str, Figure] = {}
    for figure in figures:
        stem = anchor = f"{target}-{re.sub(r'[^A-Za-z0-9_.]+', '-', figure.name)}"
        number = 1
        while anchor in anchored:
            number += 1
            anchor = f"{stem}-{number}"
        anchored[anchor] = figure
    return list(anchored.items())


def _facts(run: Run) -> list[tuple[str, str]]:
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


def _cards(run: Run) -> list[dict[str, object]]:
    return [
        {
            "title": item.title,
            "value": item.last,
            "from": item.first if len(item.values) > 1 else None,
            "where": item.where,
            "trend": sparkline(item.values) if len(item.values) > 1 else Markup(),
        }
        for item in highlights(run)[:_MAX_CARDS]
    ]


def _comparison(runs: Sequence[Run], figures: Sequence[tuple[str, Figure]]) -> dict[str, object]:
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


def _missing(run: Run) -> list[tuple[str, str]]:
    # a key in monospace, where there is one, and what is said of it
    found = [
        (f"{section.name}/…", f"was not logged; {section.source} writes it ({section.title}).")
        for section in SECTIONS
        if not run.section(section.name) and section.name != "train"
    ]
    if not run.section("train"):
        found.append(("train/…", "was not logged, so there is no loss curve."))
    found += [(column, "was logged, but never as a finite number.") for column in run.empty]
    filters = first_layer_filters(run.folder)
    if not filters.images and filters.sentence:
        found.append(("", filters.sentence))
    if not run.facts:
        found.append(("", "There is no run.json, so the time the run took is not known."))
    if not run.settings:
        found.append(
            ("", "There is neither a config.yaml nor an hparams.yaml, so the settings are not known.")
        )
    return found
