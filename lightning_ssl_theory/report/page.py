"""The whole report as one HTML page that needs no other file and no network."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from lightning_ssl_theory.report.chart import sparkline
from lightning_ssl_theory.report.factor_in_the_way import SECTION, generalization_sentences
from lightning_ssl_theory.report.figures import (
    comparison_figure,
    eigenvector_figure,
    filter_figure,
    overhead_figure,
    section_figures,
)
from lightning_ssl_theory.report.filters import first_layer_eigenvectors, first_layer_filters
from lightning_ssl_theory.report.highlights import TITLES, highlights
from lightning_ssl_theory.report.keys import SECTIONS
from lightning_ssl_theory.report.logged_run import Run
from lightning_ssl_theory.report.style import SCRIPT, STYLE

_COMPARED = (
    ("collapse", "effective_rank"),
    ("orthogonality", "drift"),
    ("probe", "logistic_top1"),
    ("probe", "logistic_top1_10_labels"),
)
_MAX_CARDS = 10


def render_report(run: Run) -> str:
    """The report of a run, of its sub-runs, or of both.

    Args:
        run: What `read_run` returns.

    Returns:
        A complete HTML document.
    """
    parts = [part for part in run.parts if part.series]
    contents, body = [], []
    if parts:
        contents.append(("comparison", "Comparison"))
        body.append(_comparison(parts))
    if run.series:
        sections = _sections(run, prefix="")
        contents += [(section.target, section.title) for section in sections]
        body += [_cards(run), *(section.html for section in sections)]
    for part in parts:
        contents.append((part.name, part.name))
        name = escape(part.name)
        heading = f'<div class="run" id="{name}"><p class="eyebrow">Run</p><h2>{name}</h2>'
        sections = _sections(part, prefix=f"{part.name}-")
        body += [heading, _facts(part), _cards(part), *(section.html for section in sections), "</div>"]
    if not run.series and run.settings:
        body.append(_settings(run, prefix="").html)
    body.append(
        "<footer>Written by lightning-ssl-theory from metrics.csv; all of it is in this one file.</footer>"
    )
    header = _header(run, contents)
    title = escape(run.name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title} · run report</title><style>{STYLE}</style></head>"
        f"<body><main>{header}{''.join(body)}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _header(run: Run, contents: list[tuple[str, str]]) -> str:
    links = "".join(f'<a href="#{escape(target)}">{escape(text)}</a>' for target, text in contents)
    return (
        f'<header><p class="eyebrow">Run report</p><h1>{escape(run.name)}</h1>{_facts(run)}'
        f"<nav>{links}</nav></header>"
    )


def _facts(run: Run) -> str:
    items = []
    if status := run.facts.get("status"):
        items.append(escape(str(status)))
    if started := run.facts.get("started"):
        items.append(f"started <b>{escape(str(started))}</b>")
    if isinstance(seconds := run.facts.get("seconds"), int | float):
        items.append(f"took <b>{_duration(seconds)}</b>")
    steps = [series.steps[-1] for series in run.series.values()]
    if steps:
        items.append(f"last step <b>{max(steps):,.0f}</b>")
    items += [f"{escape(name)} <b>{escape(str(text))}</b>" for name, text in _named_facts(run)]
    return f'<p class="facts">{"".join(f"<span>{item}</span>" for item in items)}</p>' if items else ""


def _named_facts(run: Run) -> list[tuple[str, str]]:
    found = {
        name: run.facts.get(name) for name in ("parameters", "device", "processes", "torch", "lightning")
    }
    if found["processes"] == 1:
        del found["processes"]
    return [(name, f"{v:,}" if isinstance(v, int) else str(v)) for name, v in found.items() if v]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


class _Part(NamedTuple):
    target: str
    title: str
    html: str


def _sections(run: Run, *, prefix: str) -> list[_Part]:
    parts = []
    for section in SECTIONS:
        is_overhead = section.name == "overhead"
        figures = [overhead_figure(run)] if is_overhead else section_figures(run, section.name)
        if any(figures):
            intro = section.intro
            if section.name == SECTION:
                intro = f"{intro} {generalization_sentences(run)}"
            parts.append(_section(f"{prefix}{section.name}", section.title, intro, figures))
    known = {section.name for section in SECTIONS}
    others = sorted({series.key.section for series in run.series.values()} - known)
    figures = [figure for name in others for figure in section_figures(run, name)]
    if figures:
        parts.append(_section(f"{prefix}other", "Other logged keys", "Logged by something else.", figures))
    filters = first_layer_filters(run.folder)
    if filters.images:
        figures = [filter_figure(filters)]
        eigenvectors = first_layer_eigenvectors(run.folder)
        figures += [eigenvector_figure(eigenvectors)] if eigenvectors.images else []
        parts.append(_section(f"{prefix}filters", "First layer", "What the first layer looks for.", figures))
    if missing := _missing(run, "" if filters.images else filters.sentence):
        html = f'<section id="{escape(prefix)}missing"><h3>Not in this run</h3>{missing}</section>'
        parts.append(_Part(f"{prefix}missing", "Not in this run", html))
    has_settings = run.settings or run.facts.get("network")
    return [*parts, _settings(run, prefix=prefix)] if has_settings else parts


def _section(target: str, title: str, intro: str, figures: list[str]) -> _Part:
    html = (
        f'<section id="{escape(target)}"><h3>{escape(title)}</h3><p class="lead">{escape(intro)}</p>'
        f'<div class="charts">{"".join(figures)}</div></section>'
    )
    return _Part(target, title, html)


def _cards(run: Run) -> str:
    cards = []
    for item in highlights(run)[:_MAX_CARDS]:
        where = f" · {escape(item.where)}" if item.where else ""
        several = len(item.values) > 1
        trend = f'<div class="trend">{sparkline(item.values)}</div>' if several else ""
        origin = f"from {item.first}{where}" if several else escape(item.where) or "one value"
        cards.append(
            f'<div class="card"><p class="name">{escape(item.title)}</p><p class="value">{item.last}</p>'
            f'<p class="from">{origin}</p>{trend}</div>'
        )
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _comparison(parts: list[Run]) -> str:
    rows: dict[str, dict[str, str]] = {}
    for part in parts:
        for item in highlights(part):
            was = f' <span class="was">from {item.first}</span>' if len(item.values) > 1 else ""
            rows.setdefault(item.title, {}).setdefault(part.name, f"{item.last}{was}")
    head = "".join(f"<th>{escape(part.name)}</th>" for part in parts)
    dash = '<span class="was">–</span>'
    lines = []
    for title in sorted(rows, key=TITLES.index):
        row = "".join(f"<td>{rows[title].get(part.name, dash)}</td>" for part in parts)
        lines.append(f"<tr><th>{escape(title)}</th>{row}</tr>")
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    figures = [f'<figure class="wide"><div class="scroll">{table}</div></figure>', *_shared(parts)]
    intro = "The runs side by side: the last value, and what it was at the start."
    return _section("comparison", "Comparison", intro, figures).html


# One chart for every compared key that at least two runs logged.
def _shared(parts: list[Run]) -> list[str]:
    colours = {part.name: number for number, part in enumerate(parts)}
    figures = []
    for section, name in _COMPARED:
        columns = dict.fromkeys(series.column for part in parts for series in part.quantity(section, name))
        for column in columns:
            found = {part.name: part.series[column] for part in parts if column in part.series}
            if len(found) > 1:
                figures.append(comparison_figure(found, colours))
    return figures


def _missing(run: Run, filters_sentence: str) -> str:
    sentences = [
        f"{section.title}: no <code>{section.name}/…</code> key was logged; {section.source} writes them."
        for section in SECTIONS
        if not run.section(section.name) and section.name != "train"
    ]
    if not run.section("train"):
        sentences.append("Training: no <code>train/…</code> key was logged, so there is no loss curve.")
    sentences += [
        f"<code>{escape(column)}</code> was logged, but never as a finite number." for column in run.empty
    ]
    if filters_sentence:
        sentences.append(escape(filters_sentence))
    if not run.facts:
        sentences.append("There is no run.json, so the time the run took is not known.")
    if not run.settings:
        sentences.append("There is neither a config.yaml nor an hparams.yaml, so the settings are not known.")
    items = "".join(f"<li>{sentence}</li>" for sentence in sentences)
    return f'<ul class="missing">{items}</ul>' if items else ""


def _settings(run: Run, *, prefix: str) -> _Part:
    texts = run.settings | ({"network": str(run.facts["network"])} if run.facts.get("network") else {})
    html = "".join(
        f"<details><summary>{escape(name)}</summary><pre>{escape(text.strip())}</pre></details>"
        for name, text in texts.items()
    )
    target = f"{prefix}settings"
    return _Part(target, "Settings", f'<section id="{escape(target)}"><h3>Settings</h3>{html}</section>')
