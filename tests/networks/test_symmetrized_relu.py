"""The symmetrised ReLU: by hand, its symmetries, and the rule of its biases."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.testing import assert_close

from lightning_ssl_theory.networks import SymmetrizedReLU
from lightning_ssl_theory.networks.symmetrized_relu import next_biases


def activation_loop(inputs, weight, bias):
    values = []
    for x in inputs.tolist():
        drives = [sum(a * b for a, b in zip(w, x, strict=True)) for w in weight.tolist()]
        values.append([max(h - b, 0) - max(-h - b, 0) for h, b in zip(drives, bias.tolist(), strict=True)])
    return torch.tensor(values, dtype=inputs.dtype)


def network_of(weight, bias):
    network = SymmetrizedReLU(weight.shape[1], weight.shape[0], init_std=1.0).double()
    network.weight.data.copy_(weight)
    network.bias.copy_(bias)
    return network


def test_oracle_by_hand():
    inputs, weight = torch.tensor([[2.0], [-2.0], [0.5]]), torch.tensor([[1.0], [-1.0]])
    assert activation_loop(inputs, weight, torch.tensor([0.5, 1.0])).tolist() == [
        [1.5, -1.0],
        [-1.5, 1.0],
        [0.0, 0.0],
    ]


def test_forward():
    inputs, weight = torch.randn(9, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    bias = torch.tensor([0.0, 0.3, 1.0, -0.2, 9.0], dtype=torch.float64)
    network = network_of(weight, bias)
    assert_close(network(inputs), activation_loop(inputs, weight, bias))
    assert not network(inputs)[:, 4].any()
    assert network(inputs.reshape(3, 3, 4)).shape == (3, 3, 5)
    assert_close(network(-inputs), -network(inputs))
    assert torch.autograd.gradcheck(network, inputs.requires_grad_())


def test_linear_without_biases():
    network = SymmetrizedReLU(4, 3, init_std=0.5)
    inputs = torch.randn(7, 4)
    assert torch.equal(network(inputs), inputs @ network.weight.mT)
    assert network.num_features == 3


def test_start():
    generator = torch.Generator().manual_seed(0)
    network = SymmetrizedReLU(100, 50, init_std=1e-3, generator=generator)
    assert float(network.weight.detach().std()) == pytest.approx(1e-3, rel=4 / math.sqrt(2 * 5000))
    again = SymmetrizedReLU(100, 50, init_std=1e-3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.weight, network.weight)
    assert [name for name, _ in network.named_parameters()] == ["linear.weight"]
    assert network.weight is network.linear.weight
    assert "bias" in network.state_dict()


@settings(deadline=None, max_examples=50)
@given(
    bias=st.floats(1e-3, 10),
    norm=st.floats(1e-3, 10),
    previous=st.floats(1e-3, 10),
    growth=st.floats(0, 1),
    cap=st.floats(0.1, 1),
)
def test_next_biases(bias, norm, previous, growth, cap):
    found = next_biases(
        torch.tensor([bias], dtype=torch.float64),
        torch.tensor([norm], dtype=torch.float64),
        torch.tensor([previous], dtype=torch.float64),
        growth=growth,
        cap=cap,
    )
    expected = min(max(bias * (1 + growth), bias * norm / previous), cap * norm)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_a_dead_neuron_keeps_a_finite_bias():
    zero = torch.zeros(1)
    assert next_biases(zero, zero, zero, growth=0.1, cap=0.5).tolist() == [0.0]


@pytest.mark.parametrize("name", ["in_features", "num_neurons", "init_std"])
def test_rejected(name):
    with pytest.raises(ValueError, match=f"Expected `{name}` (> 0|of at least 1), got 0"):
        SymmetrizedReLU(**{"in_features": 2, "num_neurons": 2, "init_std": 1.0} | {name: 0})
