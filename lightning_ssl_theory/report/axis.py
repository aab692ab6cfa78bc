"""Axes of a chart: where the data lies, round tick marks, and numbers written shortly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.ticker import LogLocator, MaxNLocator

from lightning_ssl_theory.report.keys import Scale

_ROUND = (1, 2, 5, 10)


class Axis(NamedTuple):
    """One axis of a chart.

    Attributes:
        low: Value at its start; on a logarithmic axis the base-10 logarithm of it.
        high: The same at its end.
        is_log: Whether positions are proportional to logarithms.
        ticks: Values of the tick marks, inside the axis.
        labels: Their texts.
    """

    low: float
    high: float
    is_log: bool
    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    def position(self, value: float) -> float:
        """Returns where a value lies: 0 at the axis' start, 1 at its end, held inside [0, 1]."""
        return self.positions([value])[0]

    def positions(self, values: Sequence[float]) -> list[float]:
        """Returns where each of many values lies."""
        low, extent = self.low, self.high - self.low
        if self.is_log:
            values = [math.log10(value) if value > 0 else low for value in values]
        places = [(value - low) / extent for value in values]
        if min(places, default=0.0) >= 0.0 and max(places, default=1.0) <= 1.0:
            return places
        return [min(1.0, max(0.0, place)) for place in places]


def value_axis(values: Sequence[float], scale: Scale, *, num_ticks: int = 4) -> Axis:
    """The vertical axis for a set of finite values.

    Args:
        values: At least one finite value.
        scale: "log" asks for a logarithmic axis, which is given when all values are positive and the largest
            is more than 20 times the smallest; "share" writes per cent and stays inside [0, 1].
        num_ticks: Number of tick marks aimed at.

    Returns:
        The axis.

    Example:
        >>> value_axis([0.0, 0.5, 1.0], "share").labels
        ('0 %', '20 %', '40 %', '60 %', '80 %', '100 %')
    """
    low, high = min(values), max(values)
    if scale == "log" and low > 1e-290 and high > 20 * low:
        return _log_axis(low, high)
    padding = 0.06 * (high - low)
    # a flat line is drawn in the middle of an axis that spans a tenth of its own size
    padding = padding or 0.05 * abs(high) or 0.5
    floor, ceiling = low - padding, high + padding
    if scale == "share" and low >= 0 and high <= 1:
        floor, ceiling = max(0.0, floor), min(1.0, ceiling)
    elif low >= 0 > floor or (low >= 0 and low < 0.25 * high):
        floor = 0.0
    return _linear_axis(floor, ceiling, num_ticks, is_share=scale == "share")


def step_axis(steps: Sequence[float]) -> Axis:
    """The horizontal axis for a set of optimizer steps.

    Args:
        steps: At least one step.

    Returns:
        The axis, from the first step to the last, with whole numbers as tick marks.
    """
    low, high = min(steps), max(steps)
    if high == low:
        return Axis(low - 0.5, high + 0.5, False, (low,), (f"{low:,.0f}",))
    ticks = _inside(MaxNLocator(5, steps=_ROUND, integer=True).tick_values(low, high), low, high)
    return Axis(low, high, False, ticks, tuple(f"{tick:,.0f}" for tick in ticks))


def number_text(value: float, unit: str = "") -> str:
    """A number with three significant digits, short enough for a legend.

    Args:
        value: Any number.
        unit: "%" writes a share in [0, 1] as per cent; other units are not written.

    Returns:
        The text.

    Example:
        >>> number_text(0.97313, "%"), number_text(1234567.0), number_text(0.00012), number_text(12.0)
        ('97.3 %', '1.23e6', '1.20e-4', '12.0')
    """
    if not math.isfinite(value):
        return str(value)
    if unit == "%":
        return f"{100 * value:.1f} %"
    size = abs(value)
    if size != 0 and (size < 1e-3 or size >= 1e5):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if size >= 1000:
        return f"{value:,.0f}"
    digits = 2 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
    return f"{value:.{digits}f}"


def _linear_axis(low: float, high: float, num_ticks: int, *, is_share: bool) -> Axis:
    ticks = _inside(MaxNLocator(num_ticks + 1, steps=_ROUND).tick_values(low, high), low, high)
    factor, ending = (100.0, " %") if is_share else (1.0, "")
    distance = factor * (ticks[1] - ticks[0]) if len(ticks) > 1 else factor * (high - low)
    return Axis(
        low, high, False, ticks, tuple(_tick_text(factor * tick, distance) + ending for tick in ticks)
    )


def _log_axis(low: float, high: float) -> Axis:
    start, end = math.log10(low), math.log10(high)
    padding = 0.06 * (end - start)
    start, end = start - padding, min(end + padding, 307.0)
    # fewer than three powers of ten fit in: 2 and 5 times them help
    locator = LogLocator(subs=(1, 2, 5) if end - start < 2.2 else (1,), numticks=6)
    found = locator.tick_values(10.0**start, 10.0**end)
    ticks = tuple(float(tick) for tick in found if start <= math.log10(tick) <= end)
    return Axis(start, end, True, ticks, tuple(_power_text(tick) for tick in ticks))


def _inside(ticks: Sequence[float], low: float, high: float) -> tuple[float, ...]:
    tolerance = 1e-9 * (high - low)
    return tuple(float(tick) for tick in ticks if low - tolerance <= tick <= high + tolerance)


def _tick_text(value: float, distance: float) -> str:
    if abs(value) < 1e-9 * distance:
        return "0"
    if abs(value) >= 1e5 or distance < 1e-4:
        return number_text(value)
    digits = max(0, -math.floor(math.log10(distance) + 1e-9))
    return f"{value:,.{digits}f}"


def _power_text(tick: float) -> str:
    if 1e-3 <= tick < 1e4:
        return f"{tick:,g}"
    mantissa, exponent = f"{tick:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"
