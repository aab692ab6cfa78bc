"""Errors of few values: 95 % of the normal draws lie within them."""

import math

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.operators.standard_errors import (
    jackknife_error,
    mean_error,
    ratio_error,
    widening,
)

F64 = torch.float64


@pytest.mark.parametrize("num_values", [2, 3, 4, 16])
def test_the_error_of_a_normal_mean_covers(num_values):
    draws = torch.randn(1500, num_values, dtype=F64) + 3
    covered = torch.stack([(row.mean() - 3).abs() <= mean_error(row) for row in draws])
    # 3 standard deviations of a share of 1500
    assert covered.double().mean() == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 1500) ** 0.5)


def test_widening_falls_to_the_normal_quantile():
    values = [widening(n) for n in (2, 3, 10, 10_000)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(1.96, rel=1e-3)
    assert math.isnan(widening(1))


def test_the_ratios_error_by_hand():
    # a / b with b = 2 throughout is a mean of a / 2; a = 2 b has no error
    numerators = torch.tensor([1.0, 2.0, 6.0], dtype=F64)
    assert_close(ratio_error(numerators, torch.full_like(numerators, 2.0)), mean_error(numerators / 2))
    assert ratio_error(2 * numerators, numerators) < 1e-14
    assert ratio_error(torch.zeros(3, dtype=F64), torch.zeros(3, dtype=F64)) == 0


def test_the_ratios_error_covers():
    draws = 1 + 0.2 * torch.randn(1500, 2, 8, dtype=F64)
    draws[:, 0] += draws[:, 1]  # E = 2 / 1
    found = [((a.mean() / b.mean() - 2).abs() <= ratio_error(a, b)) for a, b in draws]
    assert 0.925 < torch.stack(found).double().mean() < 0.975


def test_the_jackknife_of_a_mean_is_the_means_error():
    values = torch.randn(7, dtype=F64)
    left_out = (values.sum() - values) / 6
    assert_close(jackknife_error(left_out), mean_error(values))


@pytest.mark.parametrize("num_values", [4, 16])
def test_a_wider_interval_for_skewed_values(num_values):
    """Squares of normal draws: what a probe says of an operator of rank one."""
    draws = torch.randn(1500, num_values, dtype=F64).square()
    shares = [
        torch.stack([(row.mean() - 1).abs() <= mean_error(row, coverage=c) for row in draws]).double().mean()
        for c in (0.95, 0.99)
    ]
    assert shares[0] < 0.91
    assert 0.88 < shares[1] < 0.96


def test_one_value_has_no_error():
    one = torch.ones(1, dtype=F64)
    assert mean_error(one).isnan()
    assert ratio_error(one, one).isnan()
    assert jackknife_error(one).isnan()
