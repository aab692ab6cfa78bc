"""Closed forms of what readouts know of the codes, against simulation and crude quadrature."""

import math

import pytest
import torch

from lightning_ssl_theory.data import sparse_coding_samples
from lightning_ssl_theory.sparse_coding import (
    bayes_r2,
    best_soft_threshold,
    linear_r2,
    soft_threshold_r2,
    theorem_law,
)

CASES = [(0.0388, 0.2413), (0.5, 0.5), (1.0, 1.0), (0.01, 0.1)]


# E[g(z, h)] by the midpoint rule over the noise.
def expectation(function, probability, noise_std, num_points=4000):
    total = 0.0
    step = 20 / num_points
    for k in range(num_points):
        n = -10 + (k + 0.5) * step
        weight = math.exp(-n * n / 2) / math.sqrt(2 * math.pi) * step
        for z, share in ((-1, probability / 2), (0, 1 - probability), (1, probability / 2)):
            total += share * weight * function(z, z + noise_std * n)
    return total


def r2(readout, probability, noise_std):
    cross = expectation(lambda z, h: z * readout(h), probability, noise_std)
    return cross**2 / (probability * expectation(lambda z, h: readout(h) ** 2, probability, noise_std))


@pytest.mark.parametrize(("probability", "noise_std"), CASES)
def test_quadrature(probability, noise_std):
    def posterior_mean(h):
        density = [
            share * math.exp(-(((h - z) / noise_std) ** 2) / 2)
            for z, share in ((-1, probability / 2), (0, 1 - probability), (1, probability / 2))
        ]
        return (density[2] - density[0]) / sum(density) if sum(density) else math.copysign(1.0, h)

    assert linear_r2(probability, noise_std) == pytest.approx(r2(lambda h: h, probability, noise_std))
    assert bayes_r2(probability, noise_std) == pytest.approx(
        r2(posterior_mean, probability, noise_std), rel=1e-5
    )
    for threshold in (0.0, 0.3, 0.8):
        soft = r2(lambda h, t=threshold: math.copysign(max(abs(h) - t, 0), h), probability, noise_std)
        assert soft_threshold_r2(probability, noise_std, threshold) == pytest.approx(soft, rel=1e-3)


@pytest.mark.parametrize(("probability", "noise_std"), CASES)
def test_order_and_maximum(probability, noise_std):
    threshold, best = best_soft_threshold(probability, noise_std)
    grid = [soft_threshold_r2(probability, noise_std, (1 + noise_std) * k / 200) for k in range(201)]
    assert best >= max(grid) - 1e-8
    assert best == pytest.approx(soft_threshold_r2(probability, noise_std, threshold))
    assert (
        linear_r2(probability, noise_std)
        <= best + 1e-8
        <= bayes_r2(probability, noise_std) + 2e-8
        <= 1 + 2e-8
    )


def test_in_the_theorems_regime():
    probability, noise_std = theorem_law(32)
    assert bayes_r2(probability, noise_std) == pytest.approx(0.851, abs=5e-4)
    assert best_soft_threshold(probability, noise_std)[1] == pytest.approx(0.788, abs=5e-4)
    assert linear_r2(probability, noise_std) == pytest.approx(0.40, abs=5e-4)


def test_regression_on_samples():
    # The readout of all atoms for one task: simulated, its R^2 scatters by about 1/sqrt(20,000 p d) = 0.01.
    dictionary, generator = torch.eye(8, dtype=torch.float64), torch.Generator().manual_seed(0)
    inputs, codes = sparse_coding_samples(
        dictionary, 20_000, probability=0.1, noise_std=0.3, generator=generator
    )
    task = torch.arange(1.0, 9.0, dtype=torch.float64)
    goal, guess = codes @ task, inputs.sign() * (inputs.abs() - 0.4).clamp(min=0) @ task
    correlation = torch.corrcoef(torch.stack([goal, guess]))[0, 1]
    assert float(correlation**2) == pytest.approx(soft_threshold_r2(0.1, 0.3, 0.4), abs=0.03)


def test_little_noise_and_much():
    """Nothing is hidden in the limit of no noise, and only the linear part is left in that of much."""
    for noise_std in (1e-3, 1e-6, 1e-9):
        assert bayes_r2(0.04, noise_std) == pytest.approx(1.0, abs=1e-12)
    assert bayes_r2(0.04, 30.0) == pytest.approx(linear_r2(0.04, 30.0), rel=1e-3)


def test_nothing_passes_a_huge_threshold():
    assert soft_threshold_r2(0.1, 0.1, 100.0) == 0.0


@pytest.mark.parametrize("function", [bayes_r2, best_soft_threshold])
def test_rejected(function):
    with pytest.raises(ValueError, match="Expected `noise_std` > 0, got 0; without noise the input tells"):
        function(0.5, 0.0)
    with pytest.raises(ValueError, match=r"Expected `probability` in \(0, 1\], got 2"):
        function(2, 0.5)
    with pytest.raises(ValueError, match=r"Expected `probability` in \(0, 1\], got 0"):
        linear_r2(0, 0.5)
