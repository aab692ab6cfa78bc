"""Linear CKA is a normalised sum of squared covariances, whatever bases and scales are."""

import math

import pytest
import torch

from lightning_ssl_theory.metrics import linear_cka


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def squares_loop(first, second):
    """Sum of squared covariances, pair by pair."""
    total = 0.0
    for x in first.mT.tolist():
        for y in second.mT.tolist():
            means = (sum(x) / len(x), sum(y) / len(y))
            total += sum((a - means[0]) * (b - means[1]) for a, b in zip(x, y, strict=True)) ** 2
    return total


def test_matches_a_loop():
    first = draw(9, 3)
    second = first @ draw(3, 4, seed=1) + draw(9, 4, seed=2)
    own = math.sqrt(squares_loop(first, first) * squares_loop(second, second))
    assert float(linear_cka(first, second)) == pytest.approx(squares_loop(first, second) / own, rel=1e-12)


def test_bases_scales_and_shifts_do_not_matter():
    first, second = draw(9, 3), draw(9, 5, seed=1)
    turned = 1e-200 * second @ torch.linalg.qr(draw(5, 5, seed=2)).Q
    assert float(linear_cka(first + 5, turned)) == pytest.approx(float(linear_cka(first, second)), rel=1e-9)
    assert float(linear_cka(second, turned)) == pytest.approx(1.0, rel=1e-12)
    assert float(linear_cka(first, second)) < 0.9


def test_rejected_inputs():
    x = draw(4, 2)
    for arguments, message in (
        ((x, draw(3, 2)), r"Expected `second` of shape \(4, E\)"),
        ((x, torch.ones(4, 2)), "Expected `second` that varies over the samples, got a constant"),
        ((0 * x, x), "Expected `first` that varies over the samples, got a constant"),
        ((x / 0, x), "Expected finite `first`"),
    ):
        with pytest.raises(ValueError, match=message):
            linear_cka(*arguments)
