r"""What of a curve is more than noise: its level at the end, and whether it has fallen or risen.

The noise of one look is estimated from second differences, which a straight course does not touch:

    sigma^2 = mean((x_{i-1} - 2 x_i + x_{i+1})^2) / 6,

so that a sudden jump counts as noise too, and makes the claim of a change more careful. A window is a fifth of the
looks, at least two. Where a look's own 95 % error was logged, half of it is the noise if that is larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

MIN_LOOKS = 8
NUM_ERRORS = 4.0


class Curve(NamedTuple):
    """One quantity over training.

    Attributes:
        steps: N >= 1 increasing steps.
        values: N finite values.
        half_widths: Half the width of each value's own 95 % interval, N numbers or none.
    """

    steps: Sequence[float]
    values: Sequence[float]
    half_widths: Sequence[float] = ()

    @property
    def first(self) -> float:
        """The earliest value."""
        return self.values[0]

    @property
    def last(self) -> float:
        """The latest value."""
        return self.values[-1]


class Level(NamedTuple):
    """Where a curve is at its end.

    Attributes:
        value: Mean of the last fifth of the looks, at least three, or the last value of fewer than `MIN_LOOKS`.
        error: Two standard errors of it, from the scatter of those looks or their own logged errors; 0 where neither
            tells.
    """

    value: float
    error: float

    @property
    def low(self) -> float:
        """Value less error."""
        return self.value - self.error

    @property
    def high(self) -> float:
        """Value plus error."""
        return self.value + self.error


class Change(NamedTuple):
    """A fall or a rise that is more than noise.

    Attributes:
        before: Mean of the window that it starts from.
        after: Mean of the last window.
        since: Step of the last look of the window that it starts from.
        size: Number of values in a window.
    """

    before: float
    after: float
    since: float
    size: int

    @property
    def of_means(self) -> str:
        """What a sentence on a change since the start adds, as tables show the very first and last value."""
        return f"means of its first and its last {self.size:,} values"


def noise(curve: Curve) -> float:
    """Standard deviation of one look around the course of a curve.

    Args:
        curve: N values.

    Returns:
        The estimate of the module's docstring, in the unit of the values; that of the logged errors alone where N < 4.

    Example:
        >>> noise(Curve(range(5), [1.0, 2.0, 3.0, 4.0, 5.0]))
        0.0
    """
    measured = sum(curve.half_widths) / (2 * len(curve.half_widths)) if curve.half_widths else 0.0
    x = curve.values
    if len(x) < 4:
        return measured
    bends = [abs(x[i - 1] - 2 * x[i] + x[i + 1]) for i in range(1, len(x) - 1)]
    largest = max(bends) or 1.0  # squares of very large numbers would overflow
    mean_square = math.fsum((bend / largest) ** 2 for bend in bends) / len(bends)
    return max(measured, largest * math.sqrt(mean_square / 6))


def level(curve: Curve) -> Level:
    """The level of a curve at its end.

    Args:
        curve: N values.

    Returns:
        The level, in O(N).

    Example:
        >>> level(Curve(range(10), [5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])).value
        1.0
    """
    size = max(3, len(curve.values) // 5) if len(curve.values) >= MIN_LOOKS else 1
    window = curve.values[-size:]
    mean = _mean(window)
    # of what was measured with random probes, the errors of all looks may be alike: they are not divided by sqrt(size)
    measured = _mean(curve.half_widths[-size:]) if curve.half_widths else 0.0
    scatter = math.hypot(*(value - mean for value in window)) / math.sqrt(max(1, size - 1))
    return Level(mean, max(measured, 2 * scatter / math.sqrt(size)))


def fall(curve: Curve) -> Change | None:
    """The fall of a curve from its highest window to its last.

    Args:
        curve: N values.

    Returns:
        The fall; None with fewer than `MIN_LOOKS` looks, and where it is less than `NUM_ERRORS` standard errors.

    Example:
        >>> fall(Curve(range(10), [9.0, 9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
        Change(before=9.0, after=1.0, since=4, size=2)
        >>> fall(Curve(range(10), [9.0, 1.0, 9.0, 1.0, 9.0, 1.0, 9.0, 1.0, 9.0, 1.0]))
    """
    if len(curve.values) < MIN_LOOKS:
        return None
    size = _window(curve)
    means = _running_means(curve.values, size)
    # of equally high windows the last: it has fallen since
    start = max(range(len(means)), key=lambda i: (means[i], i))
    drop = means[start] - means[-1]
    if drop <= NUM_ERRORS * noise(curve) * math.sqrt(2 / size) or drop <= 1e-9 * abs(means[start]):
        return None
    return Change(means[start], means[-1], curve.steps[start + size - 1], size)


def rise(curve: Curve) -> Change | None:
    """The rise of a curve from its lowest window to its last; see `fall`.

    Args:
        curve: N values.

    Returns:
        The rise, or None.

    Example:
        >>> rise(Curve(range(10), [1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0, 9.0])).after
        9.0
    """
    change = fall(curve._replace(values=[-value for value in curve.values]))
    return change and change._replace(before=-change.before, after=-change.after)


def since_start(curve: Curve) -> Change | None:
    """The difference between the first window of a curve and its last.

    Args:
        curve: N values.

    Returns:
        It, in either direction; None with fewer than `MIN_LOOKS` looks.

    Example:
        >>> since_start(Curve(range(10), [1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0, 9.0])).before
        1.0
    """
    if len(curve.values) < MIN_LOOKS:
        return None
    size = _window(curve)
    return Change(_mean(curve.values[:size]), _mean(curve.values[-size:]), curve.steps[size - 1], size)


def is_more_than_noise(change: Change, curve: Curve) -> bool:
    """Whether two windows of a curve differ by more than `NUM_ERRORS` standard errors.

    Args:
        change: The windows' means.
        curve: The curve they are of.

    Returns:
        False also where they are equal.
    """
    bound = NUM_ERRORS * noise(curve) * math.sqrt(2 / _window(curve))
    return abs(change.after - change.before) > max(bound, 1e-9 * abs(change.before))


def _window(curve: Curve) -> int:
    return max(2, len(curve.values) // 5)


def _running_means(values: Sequence[float], size: int) -> list[float]:
    # around the first value, so that sums of large numbers lose nothing
    total = [0.0]
    for value in values:
        total.append(total[-1] + (value - values[0]))
    return [values[0] + (total[i + size] - total[i]) / size for i in range(len(values) - size + 1)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
