"""The figures of the report: a chart a quantity, a line a layer; spectra; filters; what looking cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from lightning_ssl_theory.report.axis import number_text
from lightning_ssl_theory.report.chart import Line, line_chart
from lightning_ssl_theory.report.filters import Filters
from lightning_ssl_theory.report.keys import QUANTITIES, Key, Quantity, parse_key
from lightning_ssl_theory.report.logged_run import Run, Series

ERRORS = {"_error95": 1.0, "_stderr": 2.0}  # the second is what 0.1 logged, half as wide


def section_figures(run: Run, name: str) -> list[str]:
    """The figures of one section, in the order of the key table, unknown keys last.

    Args:
        run: The run.
        name: The section.

    Returns:
        One <figure> a quantity; a spectrum gives one a layer and one for the newest spectra.
    """
    figures: list[str] = []
    colours = {layer: number for number, layer in enumerate(sorted({s.key.layer for s in run.section(name)}))}
    for quantity, series in _grouped(run.section(name)):
        if quantity is not None and quantity.name == "eigenvalue_<k>":
            figures += _spectra(quantity, series, colours)
        elif not _is_band(run, series[0]):
            figures.append(_curves(run, series, colours))
    return figures


def _is_band(run: Run, series: Series) -> bool:
    return any(
        series.column.removesuffix(error) in run.series for error in ERRORS if series.column.endswith(error)
    )


def comparison_figure(series_of_run: dict[str, Series], colours: dict[str, int]) -> str:
    """One key in several runs, in one chart.

    Args:
        series_of_run: Run name to the same key's series; at least one.
        colours: Colour number of every run.

    Returns:
        One <figure>.
    """
    column = next(iter(series_of_run.values())).column
    lines = [Line(name, s.steps, s.values, colours[name]) for name, s in series_of_run.items()]
    return _figure(parse_key(column), column, lines)


def filter_figure(filters: Filters) -> str:
    """The first layer's filters as a grid of pictures.

    Args:
        filters: At least one picture.

    Returns:
        One <figure>.
    """
    pictures = "".join(f'<img src="{uri}" alt="filter {i}">' for i, uri in enumerate(filters.images, start=1))
    reading = (
        "Edges, spots and colours that return in many filters are what the first layer has learned to look "
        "for; unstructured speckle is what it started from."
    )
    legend = "" if filters.is_colour else " Orange is positive, blue negative."
    return (
        f'<figure class="wide"><p class="read" style="margin-top:0">{reading}{legend}</p>'
        f'<div class="filters">{pictures}</div>'
        f'<p class="note" style="margin-top:10px">{escape(filters.sentence)}</p></figure>'
    )


def eigenvector_figure(filters: Filters) -> str:
    """Leading eigenvectors of a first layer's covariance operator, a row of filters each.

    Args:
        filters: The filters of every eigenvector, at least one picture.

    Returns:
        One <figure>.
    """
    size = filters.num_a_row or len(filters.images)
    rows = [filters.images[start : start + size] for start in range(0, len(filters.images), size)]
    pictures = "".join(
        f'<div class="filters" style="margin-top:6px" title="eigenvector {rank}">'
        + "".join(
            f'<img src="{uri}" alt="filter {i} of eigenvector {rank}">' for i, uri in enumerate(row, start=1)
        )
        + "</div>"
        for rank, row in enumerate(rows, start=1)
    )
    reading = (
        "The directions in which contrast drives the first layer hardest, a row of filters each: compare them with "
        "the filters themselves, which turn to them."
    )
    return (
        f'<figure class="wide"><p class="read" style="margin-top:0">{reading}</p>'
        f"{pictures}"
        f'<p class="note" style="margin-top:10px">{escape(filters.sentence)}</p></figure>'
    )


def overhead_figure(run: Run) -> str:
    """Seconds and share of the run that every callback has spent, as bars.

    Args:
        run: A run that logged `overhead/<callback>/seconds`.

    Returns:
        One <figure>, or "" without such a key.
    """
    seconds = sorted(run.quantity("overhead", "seconds"), key=lambda series: -series.last)
    if not seconds:
        return ""
    total = run.facts.get("seconds")
    longest = max(series.last for series in seconds) or 1.0
    rows = []
    for series in seconds:
        share = f", {number_text(series.last / total, '%')} of the run" if total else ""
        width = max(0.0, 100 * series.last / longest)
        rows.append(
            f"<span>{escape(series.key.layer)}</span>"
            f'<span class="bar"><i style="width:{width:.1f}%"></i></span>'
            f'<span class="amount">{series.last:.1f} s{share}</span>'
        )
    return (
        f'<figure class="wide"><p class="read" style="margin:0">Seconds each callback has spent looking; '
        f'training waits meanwhile.</p><div class="bars">{"".join(rows)}</div></figure>'
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


def _curves(run: Run, series: Sequence[Series], colours: dict[str, int]) -> str:
    lines = []
    for one in sorted(series, key=lambda one: one.key.layer):
        lines.append(
            Line(one.key.layer, one.steps, one.values, colours[one.key.layer], _half_widths(run, one))
        )
    skipped = sum(one.num_skipped for one in series)
    key, num_layers = series[0].key, len(series)
    pattern = series[0].column if num_layers == 1 else f"{key.section}/<layer>/{key.name}"
    return _figure(key, pattern, lines, skipped=skipped)


def _half_widths(run: Run, series: Series) -> Sequence[float]:
    for error, factor in ERRORS.items():
        found = run.series.get(series.column + error)
        if found and found.steps == series.steps:
            return [factor * value for value in found.values]
    return ()


def _spectra(quantity: Quantity, series: Sequence[Series], colours: dict[str, int]) -> list[str]:
    layers: dict[str, list[Series]] = {}
    for one in sorted(series, key=lambda one: (one.key.layer, one.key.number)):
        layers.setdefault(one.key.layer, []).append(one)
    figures = []
    for layer, ranked in layers.items():
        lines = [
            Line(f"λ{_subscript(one.key.number or 0)}", one.steps, one.values, rank)
            for rank, one in enumerate(ranked)
        ]
        chart = line_chart(lines, unit="eigenvalue", scale="log", ramp=True)
        pattern = f"covariance/{layer}/eigenvalue_1 … {ranked[-1].key.number}"
        figures.append(_framed(f"Spectrum over training, {layer}", pattern, chart, quantity.reading))
    newest = [
        Line(
            layer,
            [one.key.number or 0 for one in ranked],
            [one.last for one in ranked],
            colours[layer],
        )
        for layer, ranked in layers.items()
    ]
    chart = line_chart(
        newest, unit="eigenvalue", scale="log", x_label="rank of the eigenvalue", show_last=False
    )
    reading = "The last look at every layer; a steep fall means that few weight directions are driven."
    figures.append(_framed("Newest spectrum", "covariance/<layer>/eigenvalue_<k>", chart, reading))
    return figures


def _figure(key: Key, pattern: str, lines: Sequence[Line], *, skipped: int = 0) -> str:
    quantity = key.quantity
    if quantity is None:
        chart = line_chart(lines, unit="")
        return _framed(key.name, pattern, chart, "This key is not one of the library's own.", skipped=skipped)
    chart = line_chart(lines, unit=quantity.unit, scale=quantity.scale)
    title, reading = key.filled(quantity.title), key.filled(quantity.reading)
    return _framed(title, pattern, chart, reading, skipped=skipped)


def _framed(title: str, pattern: str, chart: str, reading: str, *, skipped: int = 0) -> str:
    note = ""
    if skipped:
        was = "value was no finite number and is" if skipped == 1 else "values were no finite numbers and are"
        note = f'<p class="note">{skipped} {was} left out.</p>'
    return (
        f"<figure><h4>{escape(title)}</h4><code>{escape(pattern)}</code>{chart}"
        f'<p class="read">{escape(reading)}</p>{note}</figure>'
    )


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
