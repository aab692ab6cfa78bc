"""Layers as linear maps of their weight."""

import pytest
import torch
from helpers.small_networks import DENSE_LAYERS, F64, NORM_LAYERS, built
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.operators import patches, weight_map
from lightning_ssl_theory.tracing.layer_kinds import cotangents, grouped_shape, per_output
from lightning_ssl_theory.tracing.normalized_inputs import normalized_inputs


def case(build, shape):
    """A layer in evaluation mode, its input and what its weight multiplies."""
    layer = built(build).eval()
    inputs = torch.randn(6, *shape, dtype=F64)
    return layer, inputs, normalized_inputs("layer", layer, inputs, {})


@pytest.mark.parametrize(("build", "shape"), DENSE_LAYERS + NORM_LAYERS)
def test_weight_map_is_the_layer_without_its_bias(build, shape):
    layer, inputs, seen = case(build, shape)
    expected = layer(inputs)
    if getattr(layer, "bias", None) is not None:
        expected = expected - per_output(layer, layer.bias, inputs.ndim)
        with torch.no_grad():
            layer.bias.zero_()
        assert_close(expected, layer(inputs))  # the bias lies where per_output says
    linear = weight_map(layer)
    assert_close(linear(layer.weight, seen), expected)
    other = torch.randn_like(layer.weight)
    assert_close(linear(2 * layer.weight - other, seen), 2 * expected - linear(other, seen))


@pytest.mark.parametrize(("build", "shape"), DENSE_LAYERS + NORM_LAYERS)
def test_patches_times_weight_are_the_output(build, shape):
    layer, _, seen = case(build, shape)
    found = patches(layer, seen)
    groups, fan_out, fan_in = grouped_shape(layer)
    assert groups * fan_out * fan_in == layer.weight.numel()
    assert found.shape[:3] == (6, groups, fan_in)
    weight = layer.weight.reshape(groups, fan_out, fan_in)
    expected = cotangents(layer, weight_map(layer)(layer.weight, seen))
    assert_close(torch.einsum("gof,sgfl->sgol", weight, found), expected)


def test_patches_of_a_convolution_are_what_its_positions_see():
    layer = nn.Conv1d(1, 1, 2, bias=False)
    seen = patches(layer, torch.tensor([[[1.0, 2.0, 3.0]]]))
    assert seen.tolist() == [[[[1.0, 2.0], [2.0, 3.0]]]]


def test_patches_of_a_normalisation_layer_by_hand():
    # Two tokens of two features: each weight sees its own feature at both tokens.
    seen = patches(nn.LayerNorm(2), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    assert seen.tolist() == [[[[1.0, 3.0]], [[2.0, 4.0]]]]
    # Two channels at two positions.
    seen = patches(nn.BatchNorm1d(2), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    assert seen.tolist() == [[[[1.0, 2.0]], [[3.0, 4.0]]]]


def test_rejects_other_layers():
    message = "Expected a Linear, Conv1d, Conv2d or normalisation layer, got Conv3d; name other layers"
    with pytest.raises(TypeError, match=message):
        weight_map(nn.Conv3d(1, 1, 1))
