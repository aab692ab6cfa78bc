"""What is more than noise: levels, falls and rises, against formulas written out and against noise alone."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_ssl_theory.report.findings.trend import (
    Curve,
    fall,
    is_more_than_noise,
    level,
    noise,
    rise,
    since_start,
)

FINITE = st.floats(-1e299, 1e299)


def curve(values, half_widths=()):
    return Curve(range(0, 10 * len(values), 10), values, half_widths)


def test_noise_is_that_of_second_differences():
    values = np.random.default_rng(0).normal(size=200)
    bends = np.convolve(values, [1, -2, 1], mode="valid")
    assert noise(curve(list(values))) == pytest.approx(math.sqrt((bends**2).mean() / 6))
    assert noise(curve(list(values))) == pytest.approx(1.0, abs=0.2)
    sloped = list(values + 5 * np.arange(200))  # a straight course does not touch it
    assert noise(curve(sloped)) == pytest.approx(noise(curve(list(values))))


def test_measured_errors_count_where_they_are_larger():
    assert noise(curve([1.0] * 6, [0.5] * 6)) == 0.25
    assert noise(curve([1.0, 2.0, 1.0])) == 0.0  # three looks tell nothing
    assert level(curve([1.0] * 3, [0.5, 0.5, 0.25])) == (1.0, 0.25)


def test_level_is_the_last_value_of_few_and_the_mean_of_many():
    assert level(curve([9.0, 4.0, 1.0])) == (1.0, 0.0)
    values = [5.0] * 7 + [1.0, 2.0, 3.0]
    assert level(curve(values)) == pytest.approx((2.0, 2 * np.std([1, 2, 3], ddof=1) / math.sqrt(3)))


def test_since_is_where_the_highest_window_ends():
    change = fall(curve([5.0, 6.0, 7.0, 8.0, 8.0, 6.0, 4.0, 2.0, 1.0, 1.0]))
    assert change == (8.0, 1.0, 40, 2)
    up = rise(curve([-v for v in (5.0, 6.0, 7.0, 8.0, 8.0, 6.0, 4.0, 2.0, 1.0, 1.0)]))
    assert up == (-8.0, -1.0, 40, 2)


@pytest.mark.parametrize("num_looks", [1, 2, 7])
def test_too_few_looks_are_no_change(num_looks):
    falling = curve([float(v) for v in range(num_looks, 0, -1)])
    assert fall(falling) is None
    assert rise(falling) is None
    assert since_start(falling) is None


def test_from_eight_looks_on_a_straight_fall_is_one():
    assert fall(curve([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])) == (7.5, 1.5, 10, 2)


@pytest.mark.parametrize("drop", [0.99, 1.01])
def test_four_standard_errors_are_the_edge(drop):
    # straight but for measured errors: of windows of two, the standard error of a difference is the noise itself
    half = 2.0
    bound = 4 * (half / 2) * math.sqrt(2 / 2)
    values = [drop * bound / 6 * v for v in range(7, -1, -1)]  # windows' means are six apart
    assert (fall(curve(values, [half] * 8)) is not None) == (drop > 1)


@pytest.mark.parametrize("num_looks", [8, 30, 400])
def test_noise_alone_is_seldom_called_a_change(num_looks):
    generator = random.Random(num_looks)
    found = 0
    for _ in range(300):
        values = [generator.gauss(0.0, 1.0) for _ in range(num_looks)]
        change = since_start(curve(values))
        found += fall(curve(values)) is not None or is_more_than_noise(change, curve(values))
    assert found <= 3  # one in a hundred


@given(st.lists(FINITE, min_size=1, max_size=24))
def test_any_values_are_judged(values):
    for judge in (noise, level, fall, rise, since_start):
        judge(curve(values))
    assert fall(curve([3.0] * len(values))) is None
