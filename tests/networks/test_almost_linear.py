"""Theorem 1: how far wide networks with random orthonormal weights are from linear ones, over the hidden width."""

import pytest
import torch

from lightning_ssl_theory.networks import TwoLayerNetwork

WIDTHS = [2**k for k in range(8, 14)]
# exponents of h, absolute and relative; GELU stands for phi''(0) != 0, its slope phi'(0) = 1/2 taken into account
EXPONENTS = {"tanh": (-1.5, -1.0), "gelu": (-1.0, -0.5), "relu": (-0.5, 0.0), "sigmoid": (0.0, 0.5)}
SLOPES_AT_ZERO = {"gelu": 0.5}


@pytest.fixture(scope="module")
def distances():
    """Root mean squares over 10 initialisations, 20 points and 4 outputs: {activation: [(absolute, relative)]}."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    found = {activation: [] for activation in EXPONENTS}
    for width in WIDTHS:
        squares = {activation: [] for activation in EXPONENTS}
        linear_squares = []
        for seed in range(10):
            torch.manual_seed(seed)
            linear = TwoLayerNetwork(5, width, 4).double()
            outputs = linear(points).detach()
            linear_squares.append(outputs.square().mean())
            for activation in EXPONENTS:
                network = TwoLayerNetwork(5, width, 4, activation).double()
                network.load_state_dict(linear.state_dict())
                gap = network(points).detach() - SLOPES_AT_ZERO.get(activation, 1.0) * outputs
                squares[activation].append(gap.square().mean())
        scale = torch.stack(linear_squares).mean().sqrt()
        for activation, values in squares.items():
            absolute = torch.stack(values).mean().sqrt()
            found[activation].append((absolute.item(), (absolute / scale).item()))
    return found


def slope(values):
    x = torch.tensor(WIDTHS).double().log()
    y = torch.tensor(values).double().log()
    x = x - x.mean()
    return ((x * y).sum() / x.square().sum()).item()


@pytest.mark.parametrize("activation", EXPONENTS)
def test_log_log_slopes(distances, activation):
    for values, exponent in zip(zip(*distances[activation], strict=True), EXPONENTS[activation], strict=True):
        assert slope(values) == pytest.approx(exponent, abs=0.15)


def test_relu_is_seventy_percent_from_linear(distances):
    relative = [value for _, value in distances["relu"]]
    assert sum(relative) / len(relative) == pytest.approx(0.71, abs=0.05)
