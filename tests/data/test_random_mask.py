"""Complementary masks: their law, and the correlations that they leave."""

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.data import random_mask


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_views_are_complementary_halves():
    inputs = torch.randn(50, 40, dtype=torch.float64, generator=seeded(1))
    first, second = random_mask(inputs, generator=seeded())
    assert torch.equal(first + second, 2 * inputs)
    assert not (first * second).any()
    kept = first != 0
    # 2000 fair coins, columns of 50 and rows of 40 of them: within 4 deviations
    assert abs(float(kept.float().mean()) - 0.5) < 4 * 0.5 / 2000**0.5
    assert (kept.float().mean(0) - 0.5).abs().max() < 4 * 0.5 / 50**0.5
    assert (kept.float().mean(1) - 0.5).abs().max() < 4 * 0.5 / 40**0.5
    again = random_mask(inputs, generator=seeded())
    assert torch.equal(first, again[0])
    assert not torch.equal(first, random_mask(inputs, generator=seeded(1))[0])


def test_mean_product_has_no_diagonal():
    # E[x+ x++^T | x] = x x^T - diag(x^2), over all 2^3 masks in 40,000 draws of them
    row = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    first, second = random_mask(row.expand(40_000, 3), generator=seeded())
    mean = first.mT @ second / len(first)
    expected = torch.outer(row, row) - torch.diag(row.square())
    assert_close(
        mean, expected, rtol=0, atol=4 * 4 / 40_000**0.5
    )  # products deviate by at most 4 x_i x_j = 8
    assert not mean.diagonal().any()


def test_rejected():
    with pytest.raises(ValueError, match=r"Expected `inputs` of shape \(N, d1\), got \(3,\); pass a matrix"):
        random_mask(torch.ones(3))
