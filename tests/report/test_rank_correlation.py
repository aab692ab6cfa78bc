"""Rank correlations: against scipy's, and where the interval decides."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from lightning_ssl_theory.report import rank_verdict


def test_value_is_spearmans_with_ties():
    rng = np.random.default_rng(1)
    for _ in range(20):
        first, second = rng.integers(0, 6, (2, 12)).astype(float)
        found = rank_verdict("claim", first.tolist(), second.tolist())
        assert found.value == pytest.approx(spearmanr(first, second).statistic)


def test_the_interval_decides():
    rising = list(range(12))
    assert rank_verdict("claim", rising, [x**3 for x in rising]).holds is True
    assert rank_verdict("claim", rising, [-x for x in rising]).holds is False
    mixed = rank_verdict("claim", rising, [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8])
    assert mixed.holds is None or mixed.value > 0
    unrelated = rank_verdict("claim", rising, [5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6], note="more")
    assert unrelated.holds is None
    assert unrelated.note.startswith("Spearman over 12 settings, bootstrap interval -")
    assert unrelated.note.endswith("; more")


def test_interval_covers_as_often_as_it_says():
    rng, true, covered = (
        np.random.default_rng(0),
        6 / math.pi * math.asin(0.25),
        0,
    )  # of a normal with correlation 0.5
    for _ in range(40):
        first, noise = rng.normal(size=(2, 30))
        found = rank_verdict("claim", first.tolist(), (0.5 * first + math.sqrt(0.75) * noise).tolist())
        covered += abs(found.value - true) < 1.3 * found.half_width
    assert covered >= 34


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [([1.0, math.nan, 2.0], [1.0, 2.0, 3.0], "not finite"), ([1.0] * 3, [1.0, 2.0, 3.0], "constant")],
)
def test_what_cannot_be_told(first, second, word):
    assert rank_verdict("claim", first, second).word == f"undecided ({word})"


def test_rejects():
    for first, second in (([1.0, 2.0], [1.0, 2.0]), ([1.0, 2.0, 3.0], [1.0, 2.0])):
        with pytest.raises(
            ValueError, match="Expected `first` and `second` of the same three settings or more, got"
        ):
            rank_verdict("claim", first, second)
