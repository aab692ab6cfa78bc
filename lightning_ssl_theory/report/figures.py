"""The figures of the report: a chart a quantity, a line a layer; spectra; filters; what looking cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lightning_ssl_theory.report.axis import number_text
from lightning_ssl_theory.report.chart import Chart, Line, line_chart
from lightning_ssl_theory.report.filters import Filters
from lightning_ssl_theory.report.findings.looks import overhead_shares
from lightning_ssl_theory.report.keys import QUANTITIES, Key, Quantity
from lightning_ssl_theory.report.logged_run import ERRORS, Run, Series
from lightning_ssl_theory.report.templates import Markup, rendered

_SIZES = ("num_features", "num_samples")


class Figure(NamedTuple):
    """One figure of the page.

    Attributes:
        name: What links find it by: the quantity, the last part of its key.
        title: Its heading.
        pattern: The keys it is drawn from.
        body: Chart, pictures or bars.
        reading: How to read it, a line.
        notes: What else has to be said: values left out, how many looks a point stands for.
        is_wide: Whether it takes a row of its own.
    """

    name: str
    title: str
    pattern: str
    body: Markup
    reading: str
    notes: tuple[str, ...] = ()
    is_wide: bool = False


def section_figures(run: Run, name: str) -> list[Figure]:
    """The figures of one section, in the order of the key table, unknown keys last.

    Args:
        run: The run.
        name: The section.

    Returns:
        One figure a quantity; a spectrum gives one a layer and one for the newest spectra.
    """
    figures: list[Figure] = []
    layers = sorted({series.key.layer for series in run.section(name)} - {""})
    colours = {"": 0} | {layer: number for number, layer in enumerate(layers)}
    for quantity, series in _grouped(run.section(name)):
        if _is_constant_size(series):
            continue
        if quantity is not None and quantity.name == "eigenvalue_<k>":
            figures += _spectra(quantity, series, colours)
        elif not is_band(run, series[0]):
            figures.append(_curves(run, series, colours))
    return figures


def constant_sizes(run: Run, name: str) -> list[str]:
    """Sizes that stayed the same throughout a run, which are no curves.

    Args:
        run: The run.
        name: The section.

    Returns:
        For each size its title, and its value at every layer.
    """
    return [
        f"{quantity.title}: " + ", ".join(f"{one.key.layer} {one.last:,.0f}".strip() for one in series)
        for quantity, series in _grouped(run.section(name))
        if quantity is not None and _is_constant_size(series)
    ]


def _is_constant_size(series: Sequence[Series]) -> bool:
    return series[0].key.name in _SIZES and all(len(set(one.values)) == 1 for one in series)


def is_band(run: Run, series: Series) -> bool:
    """Whether a key is the error of another one, and is drawn as a band around it.

    Args:
        run: The run.
        series: One of its keys.

    Returns:
        Whether the other key was logged.
    """
    return any(
        series.column.removesuffix(error) in run.series for error in ERRORS if series.column.endswith(error)
    )


def overlay_figure(series_of_run: Mapping[str, tuple[Run, Series]], colours: Mapping[str, int]) -> Figure:
    """One key in several runs, in one chart.

    Args:
        series_of_run: Run name to the run and its series of the same key; at least one.
        colours: Colour number of every run.

    Returns:
        The figure.
    """
    found = [series for _, series in series_of_run.values()]
    lines = [
        Line(name, series.steps, series.values, colours[name], run.half_widths(series))
        for name, (run, series) in series_of_run.items()
    ]
    figure = _figure(found[0].key, found[0].column, lines, skipped=sum(len(one.skipped) for one in found))
    where = f", {found[0].key.layer}" if found[0].key.layer else ""
    return figure._replace(title=f"{figure.title}{where}", name=found[0].column)


def filter_figure(filters: Filters) -> Figure:
    """The first layer's filters as a grid of pictures.

    Args:
        filters: At least one picture.

    Returns:
        The figure.
    """
    pictures = [(uri, f"filter {i}") for i, uri in enumerate(filters.images, start=1)]
    reading = (
        "Edges, spots and colours that return in many filters are what the first layer has learned to look "
        "for; unstructured speckle is what it started from."
    )
    legend = "" if filters.is_colour else " Orange is positive, blue negative."
    return Figure(
        "filters",
        "Filters",
        "",
        rendered("pictures.html", rows=[("", pictures)]),
        reading + legend,
        (filters.sentence,),
        is_wide=True,
    )


def eigenvector_figure(filters: Filters) -> Figure:
    """Leading eigenvectors of a first layer's covariance operator, a row of filters each.

    Args:
        filters: The filters of every eigenvector, at least one picture.

    Returns:
        The figure.
    """
    size = filters.num_a_row or len(filters.images)
    rows = [
        (
            f"eigenvector {rank}",
            [
                (uri, f"filter {i} of eigenvector {rank}")
                for i, uri in enumerate(filters.images[at : at + size], 1)
            ],
        )
        for rank, at in enumerate(range(0, len(filters.images), size), start=1)
    ]
    reading = (
        "The directions in which contrast drives the first layer hardest, a row of filters each: compare them with "
        "the filters themselves, which turn to them."
    )
    return Figure(
        "eigenvectors",
        "Leading eigenvectors",
        "",
        rendered("pictures.html", rows=rows),
        reading,
        (filters.sentence,),
        is_wide=True,
    )


def overhead_figure(run: Run) -> Figure | None:
    """Seconds and share of the run that every callback has spent, as bars.

    Args:
        run: A run that logged `overhead/<callback>/seconds`.

    Returns:
        The figure, or None without such a key.
    """
    seconds = sorted(run.quantity("overhead", "seconds"), key=lambda series: -series.last)
    if not seconds:
        return None
    longest = max(series.last for series in seconds) or 1.0
    shares = overhead_shares(run)
    bars = [
        {
            "name": one.key.layer,
            "width": f"{max(0.0, 100 * one.last / longest):.1f}%",
            "seconds": f"{one.last:,.1f} s",
            "share": number_text(shares[one.key.layer], "%") if one.key.layer in shares else "",
        }
        for one in seconds
    ]
    reading = "Seconds each callback has spent looking, and its share of the run; training waits meanwhile."
    return Figure(
        "seconds",
        "Seconds",
        "overhead/<callback>/seconds",
        rendered("bars.html", bars=bars),
        reading,
        is_wide=True,
    )


def _grouped(series: Iterable[Series]) -> list[tuple[Quantity | None, list[Series]]]:
    groups: dict[str, list[Series]] = {}
    for one in series:
        quantity = one.key.quantity
        is_eigenvalue = quantity is not None and quantity.name == "eigenvalue_<k>"
        groups.setdefault("eigenvalue" if is_eigenvalue else one.key.name, []).append(one)
    ordered = sorted(groups.values(), key=lambda group: (_rank(group[0].key.quantity), group[0].key.name))
    return [(group[0].key.quantity, group) for group in ordered]


def _rank(quantity: Quantity | None) -> int:
    return QUANTITIES.index(quantity) if quantity else len(QUANTITIES)


def _curves(run: Run, series: Sequence[Series], colours: Mapping[str, int]) -> Figure:
    lines = [
        Line(one.key.layer, one.steps, one.values, colours[one.key.layer], run.half_widths(one))
        for one in sorted(series, key=lambda one: one.key.layer)
    ]
    key, num_layers = series[0].key, len(series)
    pattern = series[0].column if num_layers == 1 else f"{key.section}/<layer>/{key.name}"
    return _figure(key, pattern, lines, skipped=sum(len(one.skipped) for one in series))


def _spectra(quantity: Quantity, series: Sequence[Series], colours: Mapping[str, int]) -> list[Figure]:
    layers: dict[str, list[Series]] = {}
    for one in sorted(series, key=lambda one: (one.key.layer, one.key.number)):
        layers.setdefault(one.key.layer, []).append(one)
    figures = []
    for layer, ranked in layers.items():
        lines = [
            Line(f"λ{_subscript(one.key.number or 0)}", one.steps, one.values, rank)
            for rank, one in enumerate(ranked)
        ]
        title = f"Spectrum over training, {layer}"
        chart = line_chart(lines, unit="eigenvalue", scale="log", title=title, ramp=True)
        pattern = f"covariance/{layer}/eigenvalue_1 … {ranked[-1].key.number}"
        figures.append(_framed("spectrum", title, pattern, chart, quantity.reading))
    newest = [
        Line(
            layer,
            [one.key.number or 0 for one in ranked],
            [one.last for one in ranked],
            colours[layer],
        )
        for layer, ranked in layers.items()
    ]
    title, rank_label = "Newest spectrum", "rank of the eigenvalue"
    chart = line_chart(
        newest, unit="eigenvalue", scale="log", title=title, x_label=rank_label, show_last=False
    )
    reading = "The last look at every layer; a steep fall means that few weight directions are driven."
    figures.append(_framed("newest_spectrum", title, "covariance/<layer>/eigenvalue_<k>", chart, reading))
    return figures


def _figure(key: Key, pattern: str, lines: Sequence[Line], *, skipped: int = 0) -> Figure:
    quantity = key.quantity
    if quantity is None:
        chart = line_chart(lines, unit="", title=key.name)
        reading = "This key is not one of the library's own."
        return _framed(key.name, key.name, pattern, chart, reading, skipped=skipped)
    title, reading = key.filled(quantity.title), key.filled(quantity.reading)
    chart = line_chart(lines, unit=quantity.unit, scale=quantity.scale, title=title)
    return _framed(key.name, title, pattern, chart, reading, skipped=skipped)


def _framed(name: str, title: str, pattern: str, chart: Chart, reading: str, *, skipped: int = 0) -> Figure:
    notes = []
    if skipped:
        was = "value was no finite number and is" if skipped == 1 else "values were no finite numbers and are"
        notes.append(f"{skipped:,} {was} left out.")
    if chart.num_each > 1:
        notes.append(
            f"A point is the mean of about {chart.num_each:,} looks; the band goes from the smallest to the largest."
        )
    return Figure(name, title, pattern, chart.html, reading, tuple(notes))


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
