"""A line chart as inline SVG, drawn with CSS colours so that it follows light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from lightning_ssl_theory.report.axis import Axis, number_text, step_axis, value_axis
from lightning_ssl_theory.report.keys import Scale

WIDTH, HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 25, 30
_MAX_POINTS = 240
NUM_COLOURS = 8


class Line(NamedTuple):
    """One line of a chart.

    Attributes:
        label: Its name in the legend.
        steps: Horizontal positions, increasing.
        values: As many finite values.
        colour: Number of its colour; beyond `NUM_COLOURS` the same colours come dashed.
        spread: Half the height of a band around the line, as many as `values`, or none.
    """

    label: str
    steps: Sequence[float]
    values: Sequence[float]
    colour: int = 0
    spread: Sequence[float] = ()


def line_chart(
    lines: Sequence[Line],
    *,
    unit: str,
    scale: Scale = "linear",
    x_label: str = "step",
    ramp: bool = False,
    show_last: bool = True,
) -> str:
    """A chart of several lines with its legend.

    Args:
        lines: At least one line with at least one point.
        unit: Text above the vertical axis; "%" for shares in [0, 1].
        scale: See `value_axis`.
        x_label: Text at the end of the horizontal axis.
        show_last: Whether the legend shows every line's last value.
        ramp: Colours from dark to light in the order of the lines, for lines that are ranks of one thing.

    Returns:
        HTML: a legend, then one <svg>.
    """
    x_axis = step_axis([step for line in lines for step in line.steps])
    y_axis = value_axis([value for line in lines for value in line.values], scale)
    body = [_grid(x_axis, y_axis, unit, x_label)]
    for line in lines:
        style = _ramp_style(line.colour, len(lines)) if ramp else _style(line.colour)
        body.append(_drawn(_thinned(line), x_axis, y_axis, style))
    names = ", ".join(line.label for line in lines if line.label)
    data = {
        "x": f"{x_axis.low!r} {x_axis.high!r}",
        "y": f"{y_axis.low!r} {y_axis.high!r} {int(y_axis.is_log)}",
        "frame": f"{_LEFT} {WIDTH - _RIGHT} {_TOP} {HEIGHT - _BOTTOM}",
        "unit": escape(unit),
        "name": escape(x_label),
    }
    attributes = " ".join(f'data-{name}="{text}"' for name, text in data.items())
    return (
        _legend(lines, unit, ramp=ramp, show_last=show_last)
        + f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(names)} over {escape(x_label)}" {attributes}>{"".join(body)}</svg>'
    )


def sparkline(values: Sequence[float]) -> str:
    """A small line without axes.

    Args:
        values: At least two finite values, drawn at equal distances.

    Returns:
        One <svg>.
    """
    low, high = min(values), max(values)
    height = (high - low) or 1.0
    kept = [values[i] for i in _kept(len(values), 60)]
    points = " ".join(
        f"{2 + 96 * i / (len(kept) - 1):.1f},{22 - 18 * ((value - low) / height if high > low else 0.5):.1f}"
        for i, value in enumerate(kept)
    )
    x, y = points.rsplit(" ", 1)[1].split(",")
    return (
        '<svg class="spark" viewBox="0 0 100 26" aria-hidden="true" preserveAspectRatio="none">'
        f'<polyline points="{points}"/></svg>'
        f'<i class="spark-end" style="left:{x}%;top:{float(y) / 26:.0%}"></i>'
    )


def _grid(x_axis: Axis, y_axis: Axis, unit: str, x_label: str) -> str:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = []
    for tick, label in zip(y_axis.ticks, y_axis.labels, strict=True):
        y = _y(tick, y_axis)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 7}" y="{y + 3.8:.2f}" text-anchor="end">{label}</text>')
    for tick, label in zip(x_axis.ticks, x_axis.labels, strict=True):
        x = _x(tick, x_axis)
        parts.append(f'<text class="tick" x="{x}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
    parts.append(f'<line class="base" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    shown = "" if unit == "%" else escape(unit) + (", log scale" if y_axis.is_log else "")
    parts.append(f'<text class="unit" x="2" y="11">{shown}</text>')
    parts.append(
        f'<text class="unit" x="{right}" y="{HEIGHT - 1}" text-anchor="end">{escape(x_label)}</text>'
    )
    return "".join(parts)


def _drawn(line: Line, x_axis: Axis, y_axis: Axis, style: str) -> str:
    points = [(_x(s, x_axis), _y(v, y_axis)) for s, v in zip(line.steps, line.values, strict=True)]
    parts = [f'<g class="line" style="{style}" data-label="{escape(line.label)}">']
    if line.spread:
        upper = [
            (x, _y(v + d, y_axis)) for (x, _), v, d in zip(points, line.values, line.spread, strict=True)
        ]
        floor = min(line.values) if y_axis.is_log else None
        lower = [
            (x, _y(max(v - d, floor) if floor else v - d, y_axis))
            for (x, _), v, d in zip(points, line.values, line.spread, strict=True)
        ]
        parts.append(f'<polygon points="{_text([*upper, *reversed(lower)])}"/>')
    parts.append(f'<polyline points="{_text(points)}"/>')
    x, y = points[-1]
    parts.append(f'<circle cx="{x}" cy="{y}" r="2.8"/></g>')
    return "".join(parts)


def _legend(lines: Sequence[Line], unit: str, *, ramp: bool, show_last: bool) -> str:
    shown = [line for line in lines if line.label]
    if ramp and len(shown) > 3:
        shown = [shown[0], shown[-1]]
    items = []
    for line in shown:
        style = _ramp_style(line.colour, len(lines)) if ramp else _style(line.colour)
        value = f" <b>{number_text(line.values[-1], unit)}</b>" if show_last else ""
        items.append(f'<li><i style="{style}"></i>{escape(line.label)}{value}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _style(colour: int) -> str:
    dash = ("", "--d:5 3", "--d:1.5 3")[colour // NUM_COLOURS % 3]
    return f"--c:var(--c{colour % NUM_COLOURS});{dash}".rstrip(";")


def _ramp_style(rank: int, count: int) -> str:
    share = 100 - round(68 * rank / max(1, count - 1))
    return f"--c:color-mix(in oklab,var(--c0) {share}%,var(--card))"


# At most `_MAX_POINTS` points: of every stretch its mean, so that noise does not hide the course.
def _thinned(line: Line) -> Line:
    count = len(line.values)
    if count <= _MAX_POINTS:
        return line
    edges = [round(i * count / _MAX_POINTS) for i in range(_MAX_POINTS + 1)]
    spans = [slice(a, b) for a, b in pairwise(edges)]

    def means(numbers: Sequence[float]) -> tuple[float, ...]:
        return tuple(sum(numbers[span]) / len(numbers[span]) for span in spans) if numbers else ()

    return line._replace(steps=means(line.steps), values=means(line.values), spread=means(line.spread))


def _kept(count: int, at_most: int) -> list[int]:
    if count <= at_most:
        return list(range(count))
    return [round(i * (count - 1) / (at_most - 1)) for i in range(at_most)]


def _x(step: float, axis: Axis) -> float:
    return round(_LEFT + (WIDTH - _RIGHT - _LEFT) * axis.position(step), 2)


def _y(value: float, axis: Axis) -> float:
    return round(HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * axis.position(value), 2)


def _text(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
