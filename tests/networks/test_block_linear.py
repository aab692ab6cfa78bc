"""BlockLinear is M linear layers side by side, and a grouped convolution to every diagnostic."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.networks import BlockLinear
from lightning_ssl_theory.operators import covariance_operators


@pytest.mark.parametrize(("blocks", "fan_in", "fan_out"), [(3, 2, 4), (1, 5, 2), (4, 1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_matches_loop_over_linear_layers(blocks, fan_in, fan_out, bias):
    layer = BlockLinear(blocks, fan_in, fan_out, bias=bias).double()
    x = torch.randn(7, blocks * fan_in, dtype=torch.float64, requires_grad=True)
    outputs = []
    for block in range(blocks):
        rows = slice(block * fan_out, (block + 1) * fan_out)
        weight = layer.weight[rows, :, 0]
        offset = layer.bias[rows] if bias else None
        outputs.append(nn.functional.linear(x[:, block * fan_in : (block + 1) * fan_in], weight, offset))
    expected = torch.cat(outputs, dim=1)
    assert_close(layer(x), expected)
    cotangent = torch.randn_like(expected)
    parameters = [x, *layer.parameters()]
    assert_close(
        torch.autograd.grad(layer(x), parameters, cotangent),
        torch.autograd.grad(expected, parameters, cotangent),
    )


def test_is_the_grouped_convolution():
    layer = BlockLinear(3, 2, 4)
    convolution = nn.Conv1d(6, 12, 1, groups=3)
    convolution.load_state_dict(layer.state_dict())
    x = torch.randn(5, 6)
    assert_close(layer(x), convolution(x.unsqueeze(2)).squeeze(2))


def test_initialised_as_linear_layers():
    torch.manual_seed(0)
    layer = BlockLinear(200, 9, 5)
    for parameter in (layer.weight, layer.bias):
        assert parameter.abs().max() <= 1 / 3  # uniform on +- 1 / sqrt(fan-in)
        assert float(parameter.detach().std()) == pytest.approx(1 / 3 / 3**0.5, rel=0.05)


def test_covariance_operator_is_that_of_the_grouped_convolution():
    layer = BlockLinear(3, 2, 4).double()
    convolution = nn.Conv1d(6, 12, 1, groups=3).double()
    convolution.load_state_dict(layer.state_dict())
    reshaped = nn.Sequential(nn.Unflatten(1, (6, 1)), convolution, nn.Flatten(), nn.Tanh())
    views = torch.randn(5, 2, 6, dtype=torch.float64)
    found = covariance_operators(nn.Sequential(layer, nn.Tanh()), views)["0"]
    expected = covariance_operators(reshaped, views)["1"]
    assert_close(found.to_dense(), expected.to_dense())
    vector = torch.randn(24, dtype=torch.float64)
    assert_close(found @ vector, expected.to_dense() @ vector)


def test_rejects_sizes_and_shapes():
    with pytest.raises(ValueError, match="Expected `num_blocks` of at least 1, got 0"):
        BlockLinear(0, 2, 3)
    with pytest.raises(ValueError, match=r"Expected `input` of shape \(N, 6\), got \(4, 5\)"):
        BlockLinear(3, 2, 4)(torch.zeros(4, 5))
