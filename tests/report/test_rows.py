"""Columns of tables, seed by seed."""

from lightning_ssl_theory.report import paired_differences, seed_values, values_of

ROWS = [
    {"seed": seed, "layer": layer, "when": when, "trace": 100 * seed + 10 * layer + (when == "after")}
    for seed in (1, 0)
    for when in ("before", "after")
    for layer in (1, 2, 3)
]


def test_rows_that_match():
    assert values_of(ROWS, "trace", layer=2, when="after") == [121, 21]
    assert values_of(ROWS, "trace", layer=range(2, 4), seed=0, when="before") == [20, 30]
    assert values_of(ROWS, "trace", layer=7) == []


def test_a_mean_for_each_seed():
    assert seed_values(ROWS, "trace", when="before") == [120.0, 20.0]
    assert seed_values(ROWS, "trace", when="after", layer={3}) == [131.0, 31.0]


def test_differences_of_the_seeds_that_both_have():
    assert paired_differences([1.0, 2.0, 3.0], [4.0, 4.0]) == [3.0, 2.0]
