"""One forward pass that remembers what each weight saw."""

import pytest
import torch
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

from lightning_ssl_theory.operators import sample_gradients, trace_network


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
        rows = sample_gradients(seen.layer, seen.inputs, deltas[name])
        assert_close(rows.sum(0), expected.reshape(-1))


def test_nothing_of_the_model_is_touched():
    model = residual_net()
    model.stem.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace = trace_network(model, draw_views(IMAGE_SHAPE).flatten(0, 1))
    trace.weight_gradients(torch.ones_like(trace.outputs))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.stem.weight.requires_grad
    assert "stem" in trace.layers
    assert all(module.training for module in model.modules())


def test_layers_that_the_output_does_not_depend_on_read_zero():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.side = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x):
            return self.used(x) + self.side(x).detach()

    trace = trace_network(Detached(), torch.randn(4, 5))
    ones = torch.ones_like(trace.outputs)
    assert trace.backward(ones)["side"].abs().max() == 0
    assert trace.weight_gradients(ones)["side"].abs().max() == 0


def test_shared_and_unreached_layers_are_left_out_unless_named():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.unused, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.head(self.shared(self.shared(x)))

    model, inputs = Twice(), torch.randn(4, 5)
    assert list(trace_network(model, inputs).layers) == ["head"]
    with pytest.raises(
        ValueError,
        match="Expected layer 'shared' to see one input in a forward pass, it saw two; leave shared layers out",
    ):
        trace_network(model, inputs, ["shared"])
    with pytest.raises(
        ValueError, match="Expected the forward pass to reach layer 'unused', it did not; name layers that"
    ):
        trace_network(model, inputs, ["unused"])


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


class Pair(nn.Linear):
    def forward(self, x):
        return (super().forward(x),)


WRONG_OUTPUTS = [
    pytest.param(nn.Unflatten(1, (1, 5)), r"Expected the network's output of shape \(N, D\) with N = 4, got \(4, 1, 3\); pass `output=` that flattens", id="3d"),
    pytest.param(nn.Flatten(0), r"with N = 4, got \(3,\)", id="1d"),
    pytest.param(nn.Unflatten(0, (2, 2)), r"with N = 4, got \(2, 2, 3\)", id="rows"),
]  # fmt: skip


@pytest.mark.parametrize(("reshape", "message"), WRONG_OUTPUTS)
def test_rejects_outputs_that_are_no_matrix(reshape, message):
    model = nn.Sequential(reshape, nn.Linear(5 if not isinstance(reshape, nn.Flatten) else 20, 3))
    with pytest.raises(ValueError, match=message):
        trace_network(model, torch.randn(4, 5))


def test_rejects_outputs_that_are_no_tensor():
    with pytest.raises(ValueError, match="with N = 4, got tuple; pass `output=`"):
        trace_network(
            nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 3)), torch.randn(4, 5), output=lambda x: (x,)
        )


def test_rejects_outputs_without_a_gradient():
    with pytest.raises(
        ValueError,
        match=r"Expected the output to depend on a traced layer with a gradient, it does not; .* without torch.no_grad",
    ):
        trace_network(Constant(), torch.randn(4, 5))


def test_calls_what_it_is_told_to():
    model = built(lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)))
    inputs = torch.randn(4, 5, dtype=F64)
    trace = trace_network(model, inputs, output=model[0])
    assert list(trace.layers) == ["0"]
    assert_close(trace.outputs, model[0](inputs))
