"""Axes: every value inside, round tick marks, texts short and right."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_ssl_theory.report.axis import number_text, step_axis, value_axis

FINITE = st.floats(-1e12, 1e12, allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, min_size=1, max_size=8), st.sampled_from(["linear", "log", "share"]))
def test_any_values_get_an_axis_that_holds_them(values, scale):
    axis = value_axis(values, scale)
    assert math.isfinite(axis.low)
    assert axis.low < axis.high
    assert all(0 <= axis.position(value) <= 1 for value in values)
    assert len(axis.ticks) == len(axis.labels) < 12
    assert all(0 <= axis.position(tick) <= 1 for tick in axis.ticks)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=8))
def test_steps_have_whole_tick_marks(steps):
    axis = step_axis(steps)
    assert 1 <= len(axis.ticks) < 12
    assert all(float(tick).is_integer() for tick in axis.ticks)


def test_a_larger_value_lies_higher():
    for axis in (value_axis([1.0, 3.0], "linear"), value_axis([1.0, 3e4], "log")):
        assert axis.position(1.0) < axis.position(2.0) < axis.position(3.0)


def test_log_axis_only_where_values_are_positive_and_far_apart():
    assert value_axis([1.0, 30.0], "log").is_log
    assert not value_axis([1.0, 10.0], "log").is_log
    assert not value_axis([0.0, 30.0], "log").is_log
    assert not value_axis([1.0, 30.0], "linear").is_log


def test_decades_are_equally_far_apart():
    axis = value_axis([1e-3, 1e3], "log")
    assert axis.position(1.0) == pytest.approx(0.5)
    assert axis.position(100.0) - axis.position(10.0) == pytest.approx(
        axis.position(10.0) - axis.position(1.0)
    )


def test_shares_stay_inside_zero_and_one():
    axis = value_axis([0.0, 1.0], "share")
    assert (axis.low, axis.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.5, "%", "50.0 %"),
        (0.0, "", "0.00"),
        (-0.0123, "", "-0.0123"),
        (99999.0, "", "99,999"),
        (1e5, "", "1.00e5"),
        (9.99e-4, "", "9.99e-4"),
        (float("nan"), "", "nan"),
    ],
)
def test_number_text(value, unit, text):
    assert number_text(value, unit) == text
