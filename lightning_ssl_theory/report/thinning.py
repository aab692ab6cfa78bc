"""Long curves with fewer points: the course as means, and the extremes kept as a band around it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

MAX_POINTS = 240


class Thinned(NamedTuple):
    """A curve of at most `MAX_POINTS` points.

    Attributes:
        steps: Horizontal positions, increasing; the first and the last are those of the curve.
        values: The first value, means of stretches, the last value.
        lower: Lower edge of the band: smallest value of each stretch, less its spread. Empty without a band.
        upper: Upper edge.
        num_each: Values in a stretch, rounded; 1 where nothing was left out.
    """

    steps: Sequence[float]
    values: Sequence[float]
    lower: Sequence[float]
    upper: Sequence[float]
    num_each: int


def thinned(
    steps: Sequence[float],
    values: Sequence[float],
    spread: Sequence[float] = (),
    *,
    at_most: int = MAX_POINTS,
) -> Thinned:
    """A curve with at most a number of points, none of whose extremes is lost.

    A long curve is cut into stretches of as many values. The line goes through their means, so that noise does not
    hide the course, and starts and ends exactly; the band goes from the smallest to the largest.

    Args:
        steps: N increasing positions, N >= 1.
        values: N finite values.
        spread: Half the height of a band, N numbers or none.
        at_most: Largest number of points, at least 3.

    Returns:
        The curve, in O(N).

    Example:
        >>> short = thinned(range(8), [0, 0, 9, 0, 0, 1, 0, 0], at_most=4)
        >>> short.steps, short.values, short.upper
        ([0.0, 2.0, 5.0, 7.0], [0.0, 3.0, 0.3333333333333333, 0.0], [0, 9, 1, 0])
    """
    lower = [v - d for v, d in zip(values, spread, strict=True)] if spread else values
    upper = [v + d for v, d in zip(values, spread, strict=True)] if spread else values
    count = len(values)
    if count <= at_most:
        return Thinned(steps, values, lower if spread else (), upper if spread else (), 1)
    edges = [1 + round(i * (count - 2) / (at_most - 2)) for i in range(at_most - 1)]
    spans = [slice(0, 1), *(slice(a, b) for a, b in pairwise(edges)), slice(count - 1, count)]
    return Thinned(
        _means(steps, spans),
        _means(values, spans),
        [min(lower[span]) for span in spans],
        [max(upper[span]) for span in spans],
        round(count / at_most),
    )


def _means(numbers: Sequence[float], spans: Sequence[slice]) -> list[float]:
    return [sum(numbers[span]) / (span.stop - span.start) for span in spans]
