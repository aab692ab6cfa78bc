"""What layers saw of each sample: normalisations in a network against the dense operators, and one direction."""

import pytest
import torch
from helpers.dense_operator import connections_loop, plugin_loop
from helpers.small_networks import NORM_LAYERS, built, draw_views
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.operators import covariance_operators, covariance_scalars
from lightning_ssl_theory.tracing import trace_network


def network(build, shape):
    """The layer in training mode between two others; BatchNorm takes the statistics of the look."""
    first = nn.Linear if len(shape) == 1 else (nn.Conv1d if len(shape) == 2 else nn.Conv2d)
    before = (first(shape[0], shape[0]),) if first is nn.Linear else (first(shape[0], shape[0], 1),)
    size = torch.Size(shape).numel()
    return built(lambda: nn.Sequential(*before, build(), nn.Tanh(), nn.Flatten(), nn.Linear(size, 3)))


def held(model, inputs):
    """The same network in evaluation mode; a batch's own statistics are its running ones."""
    hidden = model[0](inputs).detach()
    model.eval()
    norm = model[1]
    if isinstance(norm, nn.modules.batchnorm._BatchNorm):
        dims = [d for d in range(hidden.ndim) if d != 1]
        norm.running_mean.copy_(hidden.mean(dims))
        norm.running_var.copy_(hidden.var(dims, unbiased=False))
    return model


@pytest.mark.parametrize("weight", ["random", "zero"])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("build", "shape"), NORM_LAYERS)
def test_operators_equal_the_dense_ones(build, shape, mode, weight):
    model, views = network(build, shape).train(mode == "train"), draw_views(shape, num_samples=4)
    if weight == "zero":
        nn.init.zeros_(model[1].weight)
    operators = covariance_operators(model, views, ["1"])
    scalars = covariance_scalars(model, views, ["1"], num_probes=None)["1"]
    inputs = views.flatten(0, 1)
    reference = held(model, inputs) if mode == "train" else model
    dense = plugin_loop(connections_loop(reference, views, "1"))
    assert dense.trace() > 0
    assert_close(operators["1"].to_dense(), dense)
    assert_close(scalars.trace, dense.trace())
    flat = model[1].weight.detach().reshape(-1)
    growth = (flat @ dense @ flat / flat.square().sum()).nan_to_num(0.0)
    assert_close(scalars.growth_rate, growth, atol=1e-12, rtol=1e-8)


@pytest.mark.parametrize(("build", "shape"), NORM_LAYERS)
def test_what_a_trace_keeps_times_the_weight_is_the_output(build, shape):
    model, inputs = network(build, shape).train(), draw_views(shape).flatten(0, 1)
    seen = trace_network(model, inputs, ["1"]).layers["1"]
    scaled = seen.linear_outputs
    trailing = isinstance(model[1], nn.LayerNorm | nn.RMSNorm)
    ones = [1] * (inputs.ndim - 2)
    weight = model[1].weight.detach()
    assert_close(seen.inputs * (weight if trailing else weight.reshape(-1, *ones)), scaled)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(5, affine=False), nn.InstanceNorm1d(5)])
def test_rejects_normalisation_without_a_weight(layer):
    with pytest.raises(ValueError, match="Expected layer '0' to hold its weight as a parameter, found none"):
        trace_network(nn.Sequential(layer, nn.Linear(5, 2)), torch.randn(4, 5), ["0"])


@pytest.mark.parametrize(("build", "shape"), NORM_LAYERS)
def test_a_direction_of_the_weight(build, shape):
    """The change it makes of the outputs, and its products with each sample's gradient."""
    model, inputs = network(build, shape).eval(), draw_views(shape).flatten(0, 1)
    trace = trace_network(model, inputs, ["1"])
    seen, direction = trace.layers["1"], torch.randn_like(model[1].weight)
    delta = trace.backward(torch.randn_like(trace.outputs))["1"]
    change = seen.change(direction)
    with torch.no_grad():
        before = model[:2](inputs)
        model[1].weight += direction
    assert_close(change, model[:2](inputs).detach() - before)
    assert_close(seen.sample_products(delta, change), seen.sample_gradients(delta) @ direction.flatten())
    factors = torch.rand(len(inputs), dtype=inputs.dtype)
    weighted = seen.sample_gradients(seen.weighted(delta, factors))
    assert_close(weighted, factors[:, None] * seen.sample_gradients(delta))
