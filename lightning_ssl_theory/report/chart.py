"""A line chart as inline SVG, drawn with CSS colours so that it follows light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lightning_ssl_theory.report.axis import Axis, number_text, step_axis, value_axis
from lightning_ssl_theory.report.keys import Scale
from lightning_ssl_theory.report.templates import Markup, rendered
from lightning_ssl_theory.report.thinning import Thinned, thinned

WIDTH, HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 25, 30
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


class Chart(NamedTuple):
    """A drawn chart.

    Attributes:
        html: Its legend and one <svg>.
        num_each: Most values that one drawn point is the mean of.
    """

    html: Markup
    num_each: int


def line_chart(
    lines: Sequence[Line],
    *,
    unit: str,
    scale: Scale = "linear",
    title: str = "",
    x_label: str = "step",
    ramp: bool = False,
    show_last: bool = True,
) -> Chart:
    """A chart of several lines with its legend, whose entries switch lines off and on.

    Args:
        lines: At least one line with at least one point.
        unit: Text above the vertical axis; "%" for shares in [0, 1].
        scale: See `value_axis`.
        title: What the chart shows, for readers who do not see it.
        x_label: Text at the end of the horizontal axis.
        ramp: Colours from dark to light in the order of the lines, for lines that are ranks of one thing.
        show_last: Whether the legend shows every line's last value.

    Returns:
        The chart.
    """
    x_axis = step_axis([step for line in lines for step in (line.steps[0], line.steps[-1])])
    y_axis = value_axis([value for line in lines for value in line.values], scale)
    short = [thinned(line.steps, line.values, line.spread) for line in lines]
    styles = [_ramp_style(line.colour, len(lines)) if ramp else _style(line.colour) for line in lines]
    lasts = [number_text(line.values[-1], unit) if show_last else "" for line in lines]
    shown = [0, len(lines) - 1] if ramp and len(lines) > 3 else list(range(len(lines)))
    html = rendered(
        "chart.html",
        width=WIDTH,
        height=HEIGHT,
        left=_LEFT,
        right=WIDTH - _RIGHT,
        top=_TOP,
        bottom=HEIGHT - _BOTTOM,
        title=_description(title, lines, x_label),
        x_axis=x_axis,
        y_axis=y_axis,
        y_ticks=list(zip(_ys(y_axis.ticks, y_axis), y_axis.labels, strict=True)),
        x_ticks=list(zip(_xs(x_axis.ticks, x_axis), x_axis.labels, strict=True)),
        unit=unit,
        x_label=x_label,
        lines=[
            _drawn(line.label, points, x_axis, y_axis, style)
            for line, points, style in zip(lines, short, styles, strict=True)
        ],
        legend=[(i, lines[i].label, styles[i], lasts[i]) for i in shown if lines[i].label],
        can_toggle=len(shown) == len(lines) > 1,
    )
    return Chart(html, max(points.num_each for points in short))


def sparkline(values: Sequence[float]) -> Markup:
    """A small line without axes.

    Args:
        values: At least two finite values, drawn at equal distances.

    Returns:
        One <svg>.
    """
    low, high = min(values), max(values)
    kept = thinned(range(len(values)), values, at_most=60).values
    heights = [(value - low) / (high - low) if high > low else 0.5 for value in kept]
    points = [(2 + 96 * i / (len(kept) - 1), 22 - 18 * height) for i, height in enumerate(heights)]
    return rendered(
        "sparkline.html",
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        left=f"{points[-1][0]:.1f}%",
        top=f"{points[-1][1] / 26:.0%}",
    )


def _description(title: str, lines: Sequence[Line], x_label: str) -> str:
    named = [line for line in lines if line.label]
    names = ", ".join(line.label for line in named[:NUM_COLOURS])
    more = f" and {len(named) - NUM_COLOURS} more" if len(named) > NUM_COLOURS else ""
    return (
        f"{title or 'Chart'} over {x_label}: {names}{more}" if names else f"{title or 'Chart'} over {x_label}"
    )


def _drawn(label: str, points: Thinned, x_axis: Axis, y_axis: Axis, style: str) -> dict[str, object]:
    xs, ys = _xs(points.steps, x_axis), _ys(points.values, y_axis)
    across, band = _texts(xs), _texts([*_ys(points.upper, y_axis), *reversed(_ys(points.lower, y_axis))])
    return {
        "label": label,
        "style": style,
        "band": _pairs([*across, *reversed(across)], band) if band else "",
        "points": _pairs(across, _texts(ys)),
        "end": (xs[-1], ys[-1]),
        "is_envelope": points.num_each > 1,
    }


def _style(colour: int) -> str:
    dash = ("", "--d:5 3", "--d:1.5 3")[colour // NUM_COLOURS % 3]
    return f"--c:var(--c{colour % NUM_COLOURS});{dash}".rstrip(";")


def _ramp_style(rank: int, count: int) -> str:
    share = 100 - round(68 * rank / max(1, count - 1))
    return f"--c:color-mix(in oklab,var(--c0) {share}%,var(--card))"


def _xs(steps: Sequence[float], axis: Axis) -> list[float]:
    return [round(_LEFT + (WIDTH - _RIGHT - _LEFT) * place, 2) for place in axis.positions(steps)]


def _ys(values: Sequence[float], axis: Axis) -> list[float]:
    return [
        round(HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * place, 2) for place in axis.positions(values)
    ]


def _texts(places: Sequence[float]) -> list[str]:
    return [f"{place:g}" for place in places]


def _pairs(xs: Sequence[str], ys: Sequence[str]) -> str:
    return " ".join(map(",".join, zip(xs, ys, strict=True)))
