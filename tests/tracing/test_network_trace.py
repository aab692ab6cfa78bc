"""One forward pass that remembers what each weight saw."""

import pytest
import torch
from helpers.one_look import assert_unchanged, everything
from helpers.small_networks import (
    F64,
    IMAGE_SHAPE,
    biased_mlp,
    built,
    draw_views,
    held_copy,
    residual_net,
)
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.tracing import rehearse, trace_network


def test_backward_passes_equal_autograd_on_the_network_itself():
    model, inputs = residual_net(), draw_views(IMAGE_SHAPE).flatten(0, 1)
    trace = trace_network(model, inputs, [nn.Module])
    held = held_copy(model, inputs)
    outputs = held(inputs)
    assert_close(trace.outputs, outputs)
    cotangents = torch.randn_like(outputs)
    gradients, deltas = trace.weight_gradients(cotangents), trace.backward(cotangents)
    assert set(gradients) == set(deltas) == {"stem", "norm", "inner", "inner_norm", "outer", "head"}
    for name, seen in trace.layers.items():
        weight = held.get_submodule(name).weight
        (expected,) = torch.autograd.grad(outputs, weight, cotangents, retain_graph=True)
        assert_close(gradients[name], expected)
        assert deltas[name].shape == seen.outputs.shape
        assert_close(seen.sample_gradients(deltas[name]).sum(0), expected.reshape(-1))
        assert_close(seen.weight_gradient(deltas[name]).reshape(expected.shape), expected)


def test_nothing_of_the_model_is_touched():
    model = residual_net()
    model.stem.weight.requires_grad_(False)
    before = everything(model)
    trace = trace_network(model, draw_views(IMAGE_SHAPE).flatten(0, 1))
    trace.weight_gradients(torch.ones_like(trace.outputs))
    trace.backward(torch.ones_like(trace.outputs))
    assert_unchanged(before, everything(model))
    assert "stem" in trace.layers


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.unused, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.side = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.shared(self.shared(x))) + self.side(x).detach()


LEFT_OUT = [
    pytest.param("shared", "'shared' sees more than one input in a forward pass; leave it out of `layers`", id="shared"),
    pytest.param("unused", "'unused' is not reached by the forward pass, or the output does not", id="unreached"),
    pytest.param("side", "'side' does not lead to the output; leave it out", id="detached"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "message"), LEFT_OUT)
def test_layers_that_cannot_be_looked_at_are_left_out_unless_named(name, message):
    model, inputs = Twice(), torch.randn(4, 5)
    assert list(trace_network(model, inputs).layers) == ["head"]
    found = rehearse(model, inputs, ["head", f"{name[:-1]}?"])
    assert list(found.places) == ["head"]
    assert list(found.left_out) == [name]
    with pytest.raises(ValueError, match=message):
        trace_network(model, inputs, ["head", name])


def test_the_same_module_twice_in_a_sequence_is_shared():
    shared = nn.Linear(5, 5)
    model = nn.Sequential(shared, shared, nn.Linear(5, 2))
    assert list(trace_network(model, torch.randn(4, 5)).layers) == ["2"]


def test_linear_outputs_are_those_without_a_bias():
    model, inputs = biased_mlp(), draw_views((5,)).flatten(0, 1)
    seen = trace_network(model, inputs).layers["2"]
    assert_close(seen.linear_outputs, seen.inputs @ model[2].weight.detach().mT)
    assert not seen.linear_outputs.requires_grad


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        with torch.no_grad():
            return self.layer(x)


SHAPE = r"Expected the network's output of shape \(N, D\), for 3 inputs \(3, D\), got "
WRONG_OUTPUTS = [
    pytest.param(lambda x: x[:, None], SHAPE + r"\(3, 1, 3\); pass `output=` that flattens or pools", id="3d"),
    pytest.param(lambda x: x[:, 0], SHAPE + r"\(3,\)", id="1d"),
    pytest.param(lambda x: torch.cat([x, x]), SHAPE + r"\(6, 3\)", id="rows"),
]  # fmt: skip


@pytest.mark.parametrize(("reshape", "message"), WRONG_OUTPUTS)
def test_rejects_outputs_that_are_no_matrix(reshape, message):
    model = nn.Linear(5, 3)
    with pytest.raises(ValueError, match=message):
        trace_network(model, torch.randn(4, 5), output=lambda x: reshape(model(x)))


def test_rejects_outputs_that_are_no_tensor():
    with pytest.raises(
        TypeError, match="Expected the network to put out one tensor, got tuple of 1; choose one by `output=`"
    ):
        trace_network(nn.Linear(5, 3), torch.randn(4, 5), output=lambda x: (x,))


def test_rejects_outputs_without_a_gradient():
    with pytest.raises(
        ValueError,
        match=r"Expected the output to depend on a traced layer with a gradient, it does not .*; .* without torch.no_grad",
    ):
        trace_network(Constant(), torch.randn(4, 5))


def test_calls_what_it_is_told_to():
    model = built(lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)))
    inputs = torch.randn(4, 5, dtype=F64)
    trace = trace_network(model, inputs, output=model[0])
    assert list(trace.layers) == ["0"]
    assert_close(trace.outputs, model[0](inputs))


def test_samples_that_are_equal():
    """Floating rows are told apart by a change of their own; token ids cannot be."""
    model, rows = biased_mlp(), torch.ones(4, 5, dtype=F64)
    trace = trace_network(model, rows)
    assert list(trace.layers) == ["0", "2"]
    ids = torch.ones(4, 6, dtype=torch.int64)
    text = nn.Sequential(nn.Embedding(3, 5), nn.Flatten(), nn.Linear(30, 2))
    with pytest.raises(
        ValueError, match="Expected samples that differ, got 4 equal ones; pass views of different samples"
    ):
        trace_network(text, ids)


def test_rejects_inputs_that_are_no_samples():
    model = biased_mlp()
    with pytest.raises(
        TypeError,
        match="Expected `inputs` or `views` to be a tensor or a dictionary of tensors, got list; pass `read_batch=`",
    ):
        trace_network(model, [1, 2])
    with pytest.raises(
        ValueError, match=r"Expected inputs with one row a sample, got \[3, 4\] rows; row i of every"
    ):
        trace_network(model, {"a": torch.ones(3, 5), "b": torch.ones(4, 5)})
