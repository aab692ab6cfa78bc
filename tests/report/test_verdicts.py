"""Verdicts say yes, no or undecided by the interval over seeds, also at their edges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lightning_ssl_theory.report import (
    SeedMean,
    identity_verdict,
    increase_verdict,
    joint_verdict,
    mean_verdict,
    missing_verdict,
    seed_mean,
)

FIVE = [1.1, 1.2, 1.3, 1.4, 1.5]


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12), st.sampled_from([0.9, 0.95, 0.99]))
def test_interval_is_that_of_students_t(values, confidence):
    found = seed_mean(values)
    assert found.value == pytest.approx(np.mean(values), abs=1e-9)
    if len(set(values)) == 1:
        assert found.half_width(confidence) == 0
        return
    if np.std(values) > 1e-9:
        low, high = stats.t.interval(confidence, len(values) - 1, np.mean(values), stats.sem(values))
        assert found.half_width(confidence) == pytest.approx((high - low) / 2, rel=1e-6)


def test_interval_by_hand():
    # s = 1, n = 4, and the 97.5 % point of Student's t with three degrees of freedom is 3.182
    found = seed_mean(torch.tensor([-1.0, -0.5, 0.5, 1.0]) * math.sqrt(3 / 2.5))
    assert found.standard_error == pytest.approx(0.5)
    assert found.half_width() == pytest.approx(3.182 / 2, abs=5e-4)


def test_interval_covers_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(size=(2000, 5))
    covered = [abs(found.value) < found.half_width() for found in map(seed_mean, draws)]
    assert 0.935 < np.mean(covered) < 0.965  # three standard errors around 0.95


def test_difference_is_welchs():
    first, second = [1.0, 2.0, 4.0, 4.5], [0.5, 0.7, 0.8, 0.6, 0.4, 0.9]
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    found = seed_mean(first).minus(seed_mean(second))
    assert found.value - found.half_width() == pytest.approx(expected.low)
    assert found.value + found.half_width() == pytest.approx(expected.high)
    assert found.num_seeds == 4


def test_difference_from_what_has_no_error():
    constant = seed_mean([2.0] * 5)
    found = seed_mean(FIVE).minus(constant)
    assert found.half_width() == pytest.approx(seed_mean(FIVE).half_width())
    assert constant.minus(constant) == SeedMean(0.0, 0.0, 4, 5)
    assert seed_mean(FIVE).minus(seed_mean([1.0])).half_width() == math.inf


@pytest.mark.parametrize(
    ("bounds", "holds"),
    [
        ({"above": 1}, True),
        ({"below": 2}, True),
        ({"above": 1, "below": 2}, True),
        ({"above": 2}, False),
        ({"below": 1}, False),
        ({"above": 2, "below": 3}, False),
        ({"above": 1.25}, None),
        ({"below": 1.35}, None),
        ({"above": 1.25, "below": 2}, None),
        ({"above": 1.29, "below": 1.31}, None),
    ],
)
def test_whole_interval_decides(bounds, holds):
    verdict = mean_verdict("it", FIVE, **bounds)
    assert verdict.holds is holds
    assert verdict.here == "1.30 ± 0.20"
    assert verdict.word == {True: "yes", False: "no", None: "undecided"}[holds]


@pytest.mark.parametrize("value", [0.1, 0.3, 1.0, -7.7])
def test_on_the_threshold_without_spread_is_not_beyond_it(value):
    assert mean_verdict("it", [value] * 7, above=value).holds is False
    assert mean_verdict("it", [value] * 7, below=value).holds is False
    assert mean_verdict("it", [value] * 7, above=math.nextafter(value, -math.inf)).holds is True


def test_end_of_the_interval_on_the_threshold():
    found = seed_mean(FIVE)
    low, high = found.value - found.half_width(), found.value + found.half_width()
    assert mean_verdict("it", FIVE, above=low).holds is None
    assert mean_verdict("it", FIVE, above=high).holds is False


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_seeds_decide_nothing(count):
    for bounds in ({"above": 0}, {"below": 0}):
        verdict = mean_verdict("it", [1.0] * count, **bounds)
        assert verdict.holds is None
        assert verdict.word == f"undecided ({count} seed{'s' if count > 1 else ''})"
    assert mean_verdict("it", [1.0] * 5, above=0).holds is True


def test_one_seed_has_no_interval():
    verdict = mean_verdict("it", [0.5], above=0)
    assert verdict.half_width == math.inf
    assert verdict.here == "0.5"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_decides_nothing(bad):
    for verdict in (
        mean_verdict("it", [*FIVE, bad], above=0),
        mean_verdict("it", [bad] * 6, below=0),
        joint_verdict("it", {"good": FIVE, "bad": [*FIVE, bad]}, above=0),
        identity_verdict("it", [*FIVE, bad], above=0),
    ):
        assert verdict.holds is None
        assert verdict.word == "undecided (not finite)"
        assert verdict.here == "–"


def test_parts_must_all_hold_and_the_weakest_is_named():
    strong, weak, bad = [9.0, 9.1, 9.2, 9.0, 9.1], [0.2, -0.1, 0.3, 0.2, -0.2], [-1.0, -1.1, -0.9, -1.0, -1.2]
    assert joint_verdict("it", {"a": strong, "b": [v - 8 for v in strong]}, above=0).holds is True
    undecided = joint_verdict("it", {"a": strong, "b": weak}, above=0)
    assert (undecided.holds, undecided.note) == (None, "b, weakest of 2")
    refuted = joint_verdict("it", {"a": strong, "b": weak, "c": bad}, above=0, note="why")
    assert (refuted.holds, refuted.note) == (False, "c, weakest of 3; why")
    assert refuted.value == pytest.approx(-1.04)


def test_intervals_of_parts_cover_together():
    alone = mean_verdict("it", FIVE, above=0).half_width
    together = joint_verdict("it", dict.fromkeys("abcde", FIVE), above=0).half_width
    assert together == pytest.approx(seed_mean(FIVE).half_width(0.99))
    assert together > alone


def test_growth_from_setting_to_setting():
    steps = {"8": [1.0, 2.0, 3.0, 4.0, 5.0], "16": [2.0, 3.1, 4.0, 5.1, 6.0]}
    # paired: seeds differ by far more than settings do
    assert increase_verdict("it", steps).holds is True
    assert increase_verdict("it", steps).note == "8 to 16"
    assert increase_verdict("it", dict(reversed(steps.items()))).holds is False
    with pytest.raises(
        ValueError, match=r"Expected `steps` of two settings or more, got 1; pass what is comp"
    ):
        increase_verdict("it", {"8": FIVE})


def test_identity_is_decided_by_its_worst_value_and_one_seed():
    assert identity_verdict("it", [1e-7], below=1e-6).word == "yes"
    refuted = identity_verdict("it", [1e-7, 2e-6, 3e-7], below=1e-6, note="residual")
    assert (refuted.holds, refuted.value, refuted.half_width) == (False, 2e-6, 0)
    assert refuted.note == "identity, worst of 3; residual"
    assert identity_verdict("it", [0.99, 0.8], above=0.9).value == 0.8
    assert identity_verdict("it", [0.9], above=0.9).holds is False


def test_what_was_not_measured_is_undecided():
    verdict = missing_verdict("it", "no images; pass --data-dir")
    assert (verdict.holds, verdict.here) == (None, "–")
    assert verdict.word == "undecided (no images; pass --data-dir)"


@pytest.mark.parametrize(
    ("values", "bounds", "here", "threshold"),
    [
        ([1.0] * 5, {"above": 0.5}, "1", "> 0.5"),
        ([1e-5, 2e-5, 3e-5, 2e-5, 2e-5], {"below": 1e-3}, "2.00e-05 ± 8.8e-06", "< 0.001"),
        ([520.0, 530.0, 540.0, 530.0, 530.0], {"above": 1, "below": 1000}, "530.0 ± 8.8", "1 to 1000"),
        ([3.0, 3.000001, 3.0, 3.0, 3.0], {"below": 4}, "3 ± 5.6e-07", "< 4"),
    ],
)
def test_numbers_in_as_many_digits_as_their_error_gives(values, bounds, here, threshold):
    verdict = mean_verdict("it", values, **bounds)
    assert (verdict.here, verdict.threshold) == (here, threshold)


def test_bad_arguments():
    for bounds in ({}, {"above": 1, "below": 1}, {"above": 2, "below": 1}, {"above": math.nan}):
        with pytest.raises(
            ValueError, match=r"Expected `above` < `below`, one of them finite, got .*; pass what"
        ):
            mean_verdict("it", FIVE, **bounds)
    with pytest.raises(ValueError, match="Expected `values` of at least one seed, got none; pass one number"):
        mean_verdict("it", [], above=0)
    with pytest.raises(
        ValueError, match="Expected `parts` to hold at least one quantity, got none; pass their"
    ):
        joint_verdict("it", {}, above=0)
    with pytest.raises(ValueError, match=r"Expected `confidence` in \(0, 1\), got 95; use 0.95"):
        seed_mean(FIVE).half_width(95)
