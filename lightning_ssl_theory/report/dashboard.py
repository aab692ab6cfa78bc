"""What a dashboard of a run shows: its sections, how to read each, and the charts whose patterns cover every key.

Nothing here knows Weights & Biases; `cli.dashboard` makes a saved view of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lightning_ssl_theory.report.keys import QUANTITIES, SECTIONS, Key, Quantity, Scale, Section, parse_key

MAX_LAYERS = 8
"""Most layers whose spectra have a chart of their own; more share one."""
MAX_BARS = 12
"""Most layers in an overview of last values."""
_MAX_NAMES = 30
_ERRORS = ("_error95", "_stderr")
_HEADLINES = (
    ("probe", "logistic_top1"),
    ("probe", "ridge_top1"),
    ("collapse", "effective_rank"),
    ("covariance", "residual"),
    ("covariance", "signal_ratio"),
    ("selectivity", "selective_share"),
    ("orthogonality", "drift"),
    ("generalization", "bound"),
    ("train", "loss"),
)
# a run's summary holds the plain last value of these; of the others it holds the best beside it
_WITH_BARS = "covariance"


class Chart(NamedTuple):
    """Lines over optimiser steps, one for each key that a pattern finds.

    Attributes:
        title: What it is called.
        pattern: A regular expression for whole keys, in what Python, RE2 and JavaScript have in common.
        unit: Of the axis.
        scale: "share" for values in [0, 1], "log" where values of different size are compared.
    """

    title: str
    pattern: str
    unit: str = ""
    scale: Scale = "linear"

    def shows(self, key: str) -> bool:
        """Whether a key is one of its lines."""
        return re.search(self.pattern, key) is not None


class Headline(NamedTuple):
    """A quantity of the overview.

    Attributes:
        chart: Its curves.
        bars: Its keys, one a layer, the first 12, where the last values of several layers are worth comparing.
    """

    chart: Chart
    bars: tuple[str, ...] = ()


class BoardSection(NamedTuple):
    """A part of a dashboard.

    Attributes:
        title: Its heading.
        how_to_read: Markdown on what it tells, and on each of its charts.
        charts: Its charts.
        media: Keys of images, curves and tables.
    """

    title: str
    how_to_read: str
    charts: tuple[Chart, ...]
    media: tuple[str, ...] = ()


def board_sections(keys: Iterable[str], media: Iterable[str] = ()) -> tuple[BoardSection, ...]:
    """The sections for what a run has logged; every key is found by a chart.

    Args:
        keys: Names of scalars, as logged.
        media: Names of images, curves and tables.

    Returns:
        One section for each that the keys belong to, in the order of the report, then one for all other keys.

    Example:
        >>> (section,) = board_sections(["collapse/backbone/rankme"])
        >>> section.title, section.charts[0].pattern
        ('Collapse', '^collapse/(.+/)?rankme$')
    """
    parsed = {key: parse_key(key) for key in sorted(set(keys))}
    shown, found = sorted(set(media)), []
    for section in SECTIONS:
        own = {key: parts for key, parts in parsed.items() if parts.section == section.name}
        pictures = tuple(key for key in shown if key.split("/")[0] == section.name)
        if own or pictures:
            charts = _charts(section.name, own)
            found.append(BoardSection(section.title, _how_to_read(section, own), charts, pictures))
    names = {section.name for section in SECTIONS}
    others = [key for key, parts in parsed.items() if parts.section not in names]
    pictures = tuple(key for key in shown if key.split("/")[0] not in names)
    if others or pictures:
        text = "What the LightningModule and other callbacks log; this library knows no more of it."
        found.append(BoardSection("Everything else", text, _by_first_part(others), pictures))
    return tuple(found)


def headlines(keys: Iterable[str]) -> tuple[Headline, ...]:
    """The quantities that a dashboard opens with, as far as a run has them.

    Args:
        keys: Names of scalars, as logged.

    Returns:
        Them, in the order in which they are asked about.
    """
    parsed = [(key, parse_key(key)) for key in sorted(set(keys))]
    found = []
    for section, name in _HEADLINES:
        own = [(key, parts) for key, parts in parsed if (parts.section, parts.name) == (section, name)]
        quantity = own[0][1].quantity if own else None
        if quantity is not None:
            bars = tuple(key for key, _ in own[:MAX_BARS])
            has_bars = section == _WITH_BARS and len(bars) > 1
            found.append(Headline(_of_quantity(quantity, ())[0], bars if has_bars else ()))
    return tuple(found)


def _charts(section: str, keys: dict[str, Key]) -> tuple[Chart, ...]:
    charts, unknown, has_errors = [], [], False
    by_quantity: dict[Quantity, list[str]] = {}
    for parts in keys.values():
        if parts.name.endswith(_ERRORS):
            has_errors = True
        elif parts.quantity is None:
            unknown.append(parts.name)
        else:
            by_quantity.setdefault(parts.quantity, []).append(parts.layer)
    for quantity, layers in sorted(by_quantity.items(), key=lambda item: QUANTITIES.index(item[0])):
        charts += _of_quantity(quantity, sorted(set(layers)))
    if has_errors:
        ends = "|".join(_ERRORS)
        charts.append(Chart("Errors of the estimates", f"^{section}/.+({ends})$", "as the estimate", "log"))
    if unknown:
        names = sorted(set(unknown))
        last = f"({'|'.join(map(_literal, names))})" if len(names) <= _MAX_NAMES else "[^/]+"
        charts.append(Chart("Also logged here", f"^{section}/(.+/)?{last}$"))
    return tuple(charts)


def _of_quantity(quantity: Quantity, layers: Sequence[str]) -> list[Chart]:
    name = r"\d+".join(map(_literal, quantity.name.split("<k>")))
    start = f"^{quantity.section}/"
    if not quantity.name.startswith("eigenvalue") or not 0 < len(layers) <= MAX_LAYERS:
        return [Chart(quantity.title, f"{start}(.+/)?{name}$", _unit(quantity), quantity.scale)]
    return [
        Chart(
            f"{quantity.title} of {layer}",
            f"{start}{_literal(layer)}/{name}$",
            _unit(quantity),
            quantity.scale,
        )
        for layer in layers
    ]


def _by_first_part(keys: Sequence[str]) -> tuple[Chart, ...]:
    plain = [key for key in keys if "/" not in key]
    starts = sorted({key.split("/")[0] for key in keys if "/" in key})
    charts = [Chart(start or "/", f"^{_literal(start)}/") for start in starts[:_MAX_NAMES]]
    if len(starts) > _MAX_NAMES:
        charts.append(Chart("And more", f"^({'|'.join(map(_literal, starts[_MAX_NAMES:]))})/"))
    return (*(Chart(key, f"^{_literal(key)}$") for key in plain), *charts)


def _how_to_read(section: Section, keys: dict[str, Key]) -> str:
    known = {parts.quantity for parts in keys.values()}
    # in the table's order, where some say "the same" of the one before
    lines = [
        f"- **{quantity.title}**: {quantity.reading}"
        for quantity in QUANTITIES
        if quantity in known and not quantity.name.endswith(_ERRORS)
    ]
    if any(parts.name.endswith(_ERRORS) for parts in keys.values()):
        lines.append(
            "- **Errors of the estimates**: half-widths that cover 95 % of the draws of random probes."
        )
    return "\n".join([f"### How to read this\n{section.intro} Logged by {section.source}.", "", *lines])


def _unit(quantity: Quantity) -> str:
    return "share" if quantity.unit == "%" else quantity.unit


# re.escape also escapes spaces and more, which RE2 does not take
def _literal(text: str) -> str:
    return re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", text)
