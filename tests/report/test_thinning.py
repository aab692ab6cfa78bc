"""Thinned curves: no extreme is lost, ends are exact, and short ones are left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_ssl_theory.report.thinning import thinned

FINITE = st.floats(-1e9, 1e9)


@given(st.lists(FINITE, min_size=1, max_size=200), st.integers(3, 40))
def test_extremes_and_ends_are_kept(values, at_most):
    short = thinned(range(len(values)), values, at_most=at_most)
    assert len(short.steps) == len(short.values) <= at_most
    assert list(short.steps) == sorted(set(short.steps))
    assert (short.values[0], short.values[-1]) == (values[0], values[-1])
    assert (short.steps[0], short.steps[-1]) == (0, len(values) - 1)
    if len(values) > at_most:
        assert (min(short.lower), max(short.upper)) == (min(values), max(values))


def test_short_curves_are_as_they_are():
    assert thinned([1, 2], [3.0, 4.0]) == ([1, 2], [3.0, 4.0], (), (), 1)
    assert thinned([1, 2], [3.0, 4.0], [1.0, 2.0]).upper == [4.0, 6.0]


def test_the_band_of_a_long_curve_holds_its_errors():
    short = thinned(range(10), [0.0] * 10, [1.0] * 5 + [3.0] * 5, at_most=4)
    assert (short.lower[-1], short.upper[0]) == (-3.0, 1.0)
    assert short.num_each == pytest.approx(10 / 4, abs=0.5)
