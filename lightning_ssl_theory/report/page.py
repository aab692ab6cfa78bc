"""The whole report as one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning_ssl_theory.report.chart import sparkline
from lightning_ssl_theory.report.figures import (
    Figure,
    constant_sizes,
    eigenvector_figure,
    filter_figure,
    overhead_figure,
    section_figures,
)
from lightning_ssl_theory.report.filters import first_layer_eigenvectors, first_layer_filters
from lightning_ssl_theory.report.findings import Finding, findings
from lightning_ssl_theory.report.highlights import highlights
from lightning_ssl_theory.report.keys import SECTIONS
from lightning_ssl_theory.report.logged_run import Run
from lightning_ssl_theory.report.panels import Panel, anchored, facts, overlays, side_by_side
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
    comparison = side_by_side(parts, _shared(parts, _COMPARED)) if parts else None
    return str(
        rendered(
            "report.html",
            title=run.name,
            facts=facts(run),
            comparison=comparison,
            worst=_worst(shown),
            runs=shown,
            is_single=bool(run.series),
            settings={} if run.series else run.settings,
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
        "facts": facts(run),
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
            panels.append(Panel(target, section.title, anchored(target, figures), section, own, sizes=sizes))
    known = {section.name for section in SECTIONS}
    others = sorted({series.key.section for series in run.series.values()} - known)
    figures = [figure for name in others for figure in section_figures(run, name)]
    if figures:
        target = f"{prefix}other"
        intro = "Logged by something else."
        panels.append(Panel(target, "Other logged keys", anchored(target, figures), intro=intro))
    filters = first_layer_filters(run.folder)
    if filters.images:
        figures = [filter_figure(filters)]
        eigenvectors = first_layer_eigenvectors(run.folder)
        figures += [eigenvector_figure(eigenvectors)] if eigenvectors.images else []
        target = f"{prefix}filters"
        intro = "What the first layer looks for."
        panels.append(Panel(target, "First layer", anchored(target, figures), intro=intro))
    return panels


def _shared(parts: Sequence[Run], compared: Iterable[tuple[str, str]]) -> list[tuple[str, Figure]]:
    columns = dict.fromkeys(
        series.column
        for section, name in compared
        for part in parts
        for series in part.quantity(section, name)
    )
    return anchored("comparison", overlays(parts, columns))


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
