"""Layers as linear maps of their weight, as a call of one of torch's functions shows them."""

import pytest
import torch
import torch.nn.functional as F
from helpers.small_networks import DENSE_LAYERS, F64, NORM_LAYERS, built
from torch import nn
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function
from torch.testing import assert_close

from lightning_ssl_theory.tracing import trace_network
from lightning_ssl_theory.tracing.layer_kinds import (
    Convolution,
    Dense,
    Scale,
    takes_batch_statistics,
    weight_use,
)


class Uses(TorchFunctionMode):
    """The uses of a weight in whatever runs inside."""

    def __init__(self, weight):
        super().__init__()
        self.weight, self.found = weight, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        use = weight_use(func, args, kwargs or {}, {id(self.weight)})
        self.found += [] if use is None else [use]
        return func(*args, **(kwargs or {}))


def use_of(layer, inputs):
    """The one use that a layer makes of its weight, and what it puts out."""
    with Uses(layer.weight) as uses:
        outputs = layer(inputs)
    assert len(uses.found) == 1
    return uses.found[0], outputs


def case(build, shape):
    layer = built(build).eval()
    inputs = torch.randn(6, *shape, dtype=F64)
    return layer, inputs, *use_of(layer, inputs)


@pytest.mark.parametrize(("build", "shape"), DENSE_LAYERS + NORM_LAYERS)
def test_the_map_is_the_layer_without_its_bias(build, shape):
    layer, inputs, use, expected = case(build, shape)
    if getattr(layer, "bias", None) is not None:
        assert use.bias is layer.bias
        expected = expected - use.kind.per_output(layer.bias, inputs.ndim)
        with torch.no_grad():
            layer.bias.zero_()
        assert_close(expected, layer(inputs))  # the bias lies where per_output says
    assert not use.inputs.requires_grad
    assert_close(use.kind.apply(layer.weight, use.inputs), expected)
    other = torch.randn_like(layer.weight)
    assert_close(
        use.kind.apply(2 * layer.weight - other, use.inputs), 2 * expected - use.kind.apply(other, use.inputs)
    )


@pytest.mark.parametrize(("build", "shape"), DENSE_LAYERS + NORM_LAYERS)
def test_patches_times_weight_are_the_output(build, shape):
    layer, _, use, _ = case(build, shape)
    found = use.kind.patches(use.inputs)
    groups, fan_out, fan_in = use.kind.grouped_shape
    assert groups * fan_out * fan_in == layer.weight.numel()
    assert found.shape[:3] == (6, groups, fan_in)
    weight = layer.weight.reshape(groups, fan_out, fan_in)
    expected = use.kind.cotangents(use.kind.apply(layer.weight, use.inputs))
    assert_close(torch.einsum("gof,sgfl->sgol", weight, found), expected)


@pytest.mark.parametrize(("build", "shape"), DENSE_LAYERS + NORM_LAYERS)
def test_the_axis_of_features_is_the_one_along_which_the_bias_lies(build, shape):
    layer, inputs, use, outputs = case(build, shape)
    axis = use.kind.feature_axis % outputs.ndim
    if getattr(layer, "bias", None) is None:
        assert outputs.shape[axis] == layer.weight.shape[0]
        return
    with torch.no_grad():
        moved = layer.bias.flatten()[:1].clone()
        layer.bias.view(-1)[:1] += 1
        change = layer(inputs) - outputs.detach()
        layer.bias.view(-1)[:1] = moved
    assert change.select(axis, 0).any()
    assert change.movedim(axis, 0)[1:].abs().max() < 1e-12


@pytest.mark.parametrize(("build", "shape"), DENSE_LAYERS)
def test_dense_layers_mix_features(build, shape):
    assert case(build, shape)[2].kind.is_dense


@pytest.mark.parametrize(("build", "shape"), NORM_LAYERS)
def test_normalisations_scale_features(build, shape):
    assert not case(build, shape)[2].kind.is_dense


def test_patches_of_a_convolution_are_what_its_positions_see():
    kind = Convolution(torch.Size([1, 1, 2]), stride=(1,), padding=(0,), dilation=(1,), groups=1)
    assert kind.patches(torch.tensor([[[1.0, 2.0, 3.0]]])).tolist() == [[[[1.0, 2.0], [2.0, 3.0]]]]
    padded = Convolution(torch.Size([1, 1, 2]), stride=(2,), padding="same", dilation=(1,), groups=1)
    assert padded.patches(torch.tensor([[[1.0, 2.0, 3.0]]])).tolist() == [[[[1.0, 3.0], [2.0, 0.0]]]]


def test_patches_of_a_normalisation_layer_by_hand():
    # Two tokens of two features: each weight sees its own feature at both tokens.
    seen = Scale(torch.Size([2]), is_trailing=True).patches(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    assert seen.tolist() == [[[[1.0, 3.0]], [[2.0, 4.0]]]]
    # Two channels at two positions.
    seen = Scale(torch.Size([2]), is_trailing=False).patches(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    assert seen.tolist() == [[[[1.0, 2.0]], [[3.0, 4.0]]]]


OTHERS = [
    pytest.param(lambda weight: F.conv3d(torch.ones(1, 1, 2, 2, 2), weight.reshape(1, 1, 1, 2, 2)), id="another-tensor"),
    pytest.param(lambda weight: F.linear(torch.ones(3, 4), weight.flatten()), id="vector"),
    pytest.param(lambda weight: weight @ torch.ones(2, 3), id="matmul-from-the-left"),
    pytest.param(lambda weight: F.embedding(torch.tensor([0]), weight), id="embedding"),
]  # fmt: skip


@pytest.mark.parametrize("call", OTHERS)
def test_other_functions_are_no_use(call):
    weight = torch.ones(2, 2)
    with Uses(weight) as uses:
        call(weight)
    assert uses.found == []


def test_arguments_by_name_and_by_place():
    weight, inputs = torch.randn(4, 2, 3), torch.randn(5, 4, 9)
    with Uses(weight) as uses:
        F.conv1d(inputs, weight, None, 2, 1, 1, 2)
        F.conv1d(input=inputs, weight=weight, stride=2, padding=1, groups=2)
        F.conv1d(inputs, weight, stride=(2,), padding=(1,), groups=2)
    kinds = [use.kind for use in uses.found]
    assert kinds == [Convolution(weight.shape, (2,), (1,), (1,), 2)] * 3


def mean_linear(inputs, weight):
    """A function of one's own that is F.linear of what it averages."""
    if has_torch_function((inputs, weight)):
        return handle_torch_function(mean_linear, (inputs, weight), inputs, weight)
    return torch.einsum("nf,of->no", inputs, weight)


mean_linear.same_map_as = F.linear


def test_a_function_of_ones_own_joins_by_torchs_protocol():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 5, dtype=F64))

        def forward(self, x):
            return mean_linear(x, self.weight)

    inputs = torch.randn(4, 5, dtype=F64)
    trace = trace_network(Own(), inputs)
    assert trace.layers[""].kind == Dense(torch.Size([3, 5]))
    assert_close(trace.layers[""].inputs, inputs)


def test_which_layers_take_the_statistics_of_a_batch():
    norm = nn.BatchNorm1d(3)
    assert takes_batch_statistics(norm)
    assert not takes_batch_statistics(norm.eval())
    assert takes_batch_statistics(nn.BatchNorm1d(3, track_running_stats=False).eval())
    assert not takes_batch_statistics(nn.LayerNorm(3))
