"""The sentence on what keeps the bound from saying something, and its rule at the edges."""

import math

import pytest

from lightning_ssl_theory.report.factor_in_the_way import factor_in_the_way, sentences_by_layer
from lightning_ssl_theory.report.logged_run import read_run
from lightning_ssl_theory.report.page import render_report
from report.synthetic_run import write_rows

GOOD = {
    "rho_alignment": 0.0,
    "rho_concentration": 0.0,
    "delta_mu": 0.0,
    "divergence": -0.5,
    "bound": 1.0,
    "error": 0.1,
    "vacuous": 1.0,
}


def margin(values):
    rho = values["rho_alignment"] + values["rho_concentration"]
    return 1 - rho - math.sqrt(2 * rho) - values["delta_mu"] / 2 - values["divergence"]


@pytest.mark.parametrize(
    ("changed", "factor", "is_enough"),
    [
        ({"rho_alignment": 1.0}, "alignment", True),
        ({"rho_concentration": 1.0}, "concentration", True),
        ({"divergence": 1.0}, "divergence", True),
        ({"divergence": 0.9, "rho_concentration": 0.5}, "concentration", True),
        ({"divergence": 1.0, "rho_concentration": 2.0}, "concentration", False),
        ({"rho_alignment": 2.0, "rho_concentration": 1.9}, "alignment", False),
        ({"rho_alignment": 1.9, "rho_concentration": 2.0}, "concentration", False),
        ({"rho_alignment": 2.0, "rho_concentration": 2.0}, "alignment", False),  # of equal ones the first
        # rho = .1 costs .547: a divergence of that much is as bad, and of two equal ones the earlier in the list counts
        ({"rho_concentration": 0.1, "divergence": 0.1 + math.sqrt(0.2)}, "divergence", True),
        ({"rho_concentration": 0.1, "divergence": 0.09 + math.sqrt(0.2)}, "concentration", True),
        ({"rho_alignment": 0.1, "divergence": 0.1 + math.sqrt(0.2)}, "alignment", True),
        # a divergence below zero is never in the way
        ({"rho_alignment": 0.9, "divergence": -0.01}, "alignment", True),
        ({"delta_mu": 2.0, "divergence": 0.5}, "divergence", False),
    ],
)
def test_rule(changed, factor, is_enough):
    values = GOOD | changed
    assert margin(values) <= 0 or "delta_mu" in changed or values["divergence"] > 0
    found = factor_in_the_way(values)
    assert f"Most in the way is {factor}: " in found
    ending = "would let the bound hold." if is_enough else "would not do."
    assert found.endswith(f"Perfect {factor} alone {ending}")


def test_a_bound_that_holds():
    found = factor_in_the_way(GOOD | {"vacuous": 0.0, "bound": 0.125, "error": 0.031})
    assert found == (
        "The bound holds: the nearest-centre classifier errs on at most 12.5% of these samples, and does on 3.1%. "
        "None of the three factors is in the way."
    )


def test_the_report_says_it_of_the_last_look(tmp_path):
    last = GOOD | {"rho_alignment": 1.0}
    columns = {f"generalization/backbone/{key}": [GOOD[key], value] for key, value in last.items()}
    write_rows(tmp_path / "one", columns, [0, 10])
    run = read_run(tmp_path / "one")
    assert sentences_by_layer(run) == {"backbone": (False, factor_in_the_way(last))}
    assert "Most in the way is alignment" in render_report(run)
    columns |= {key.replace("backbone", "output"): [value[0]] * 2 for key, value in columns.items()}
    write_rows(tmp_path / "two", columns, [0, 10])
    assert set(sentences_by_layer(read_run(tmp_path / "two"))) == {"backbone", "output"}


def test_without_the_keys_nothing_is_said(tmp_path):
    write_rows(tmp_path, {"generalization/output/vacuous": [1.0], "train/loss": [2.0]}, [0])
    assert sentences_by_layer(read_run(tmp_path)) == {}
