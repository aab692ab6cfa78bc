"""A pass through a frozen network gives what it should and changes nothing."""

import random
from copy import deepcopy

import numpy as np
import pytest
import torch
from helpers.one_look import assert_unchanged, everything
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from lightning_ssl_theory.tracing import frozen_call, layer_features, network_state, trace_network
from lightning_ssl_theory.tracing.frozen_call import (
    evaluation_mode,
    frozen,
    own_copies,
    weight_of,
)
from lightning_ssl_theory.tracing.plain_torch import preserved_random_state


class Noisy(nn.Module):
    """Draws from every generator there is."""

    def forward(self, x):
        return x + 0 * (torch.rand_like(x) + np.random.rand() + random.random())


def network():
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Dropout(0.5), Noisy(), nn.Linear(6, 3)
    )
    with torch.no_grad():
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 2.0)
        model[1].weight.normal_()
    return model


@pytest.mark.parametrize("batch_statistics", [None, {}])
def test_nothing_changes(batch_statistics):
    model, inputs = network(), torch.randn(7, 5)
    model[3].eval()  # modes differ between the modules
    model[5].weight.requires_grad_(False)
    model(inputs).sum().backward()
    before = everything(model)
    frozen_call(model, inputs, batch_statistics=batch_statistics)
    assert_unchanged(before, everything(model))
    model[1](torch.randn(4, 6))  # and such changes would be seen
    with pytest.raises(AssertionError, match=r"versions/1\.num_batches_tracked"):
        assert_unchanged(before, everything(model))


def test_nothing_changes_when_the_pass_breaks():
    model, inputs = network(), torch.randn(7, 5)
    before = everything(model)

    def broken(x):
        model(x)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        frozen_call(model, inputs, output=broken, batch_statistics={})
    assert_unchanged(before, everything(model))


def test_running_statistics_by_default():
    model, inputs = network(), torch.randn(7, 5)
    assert_close(frozen_call(model, inputs), deepcopy(model).eval()(inputs))


@pytest.mark.parametrize("shape", [(7, 6), (4, 6, 3), (3, 6, 2, 2)])
def test_held_statistics_are_those_of_the_batch(shape):
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](6)
    nn.init.normal_(norm.weight)
    inputs = torch.randn(shape) + 3
    expected = deepcopy(norm)(inputs)
    assert_close(frozen_call(norm, inputs, batch_statistics={}), expected)
    norm.eval()  # a layer that the user has frozen stays with its running statistics
    assert_close(frozen_call(norm, inputs, batch_statistics={}), norm(inputs))
    bare = nn.BatchNorm1d(6, affine=False, track_running_stats=False).eval()
    rows = torch.randn(5, 6)
    assert_close(frozen_call(bare, rows, batch_statistics={}), bare(rows))


def test_statistics_of_one_pass_hold_in_another_call_by_call():
    norm, statistics = nn.BatchNorm1d(2), {}
    first, second = torch.randn(8, 2) + 3, 2 * torch.randn(8, 2)

    def twice(x):
        return norm(x) + norm(x.square())

    expected = frozen_call(norm, first, output=twice, batch_statistics=statistics)
    assert list(statistics) == [("", 0), ("", 1)]
    assert_close(statistics["", 0][0], first.mean(0))
    assert_close(statistics["", 1][1], first.square().var(0, unbiased=False))
    assert_close(frozen_call(norm, first[:3], output=twice, batch_statistics=statistics), expected[:3])
    own = frozen_call(norm, second, output=twice, batch_statistics={})
    assert not torch.allclose(own, frozen_call(norm, second, output=twice, batch_statistics=statistics))


def test_held_statistics_are_constants_of_the_graph():
    norm = nn.BatchNorm1d(2)
    inputs = torch.randn(5, 2)
    shift = torch.zeros(2, requires_grad=True)
    output = frozen_call(norm, inputs, output=lambda x: norm(x + shift), batch_statistics={})
    (gradient,) = torch.autograd.grad(output.sum(), shift)
    # through the statistics of the batch the gradient would be zero
    assert_close(gradient, 5 / (inputs.var(0, unbiased=False) + norm.eps).sqrt())


def test_held_statistics_are_summed_over_ranks():
    norm, inputs = nn.BatchNorm1d(2), torch.randn(6, 2)
    # another rank with the same rows twice as far out: what its sums would add
    mean = 3 * inputs.sum(0) / 12
    sums = iter([torch.cat([2 * inputs.sum(0), torch.tensor([6.0])]), (2 * inputs - mean).square().sum(0)])
    found = frozen_call(norm, inputs, batch_statistics={}, all_sum=lambda tensor: tensor + next(sums))
    expected = deepcopy(norm)(torch.cat([inputs, 2 * inputs]))[:6]
    assert_close(found, expected)


def test_another_state_output_and_precision():
    model, inputs = network(), torch.randn(7, 5, dtype=torch.float64)
    exact = deepcopy(model).double().eval()
    assert_close(frozen_call(model, inputs), exact(inputs))
    state = {
        name: torch.zeros_like(value) if name == "5.weight" else value
        for name, value in network_state(model, inputs.dtype).items()
    }
    assert_close(frozen_call(model, inputs, state=state), exact[5].bias.expand(7, -1))
    assert_close(frozen_call(model, inputs, output=lambda x: model[0](2 * x)), exact[0](2 * inputs))


def test_a_state_shares_its_memory_and_a_pass_runs_on_copies():
    model = network()
    state = network_state(model, torch.float32)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        assert state[name].data_ptr() == value.data_ptr()
        assert not state[name].requires_grad
    leaf = torch.zeros(2, requires_grad=True)
    copies = own_copies(state | {"leaf": leaf})
    assert copies["leaf"] is leaf
    assert all(copies[name].data_ptr() != value.data_ptr() for name, value in state.items())
    assert state["1.num_batches_tracked"].dtype == torch.int64
    assert network_state(model.half(), torch.float32)["0.weight"].dtype == torch.float32
    tied = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    tied["b"].weight = tied["a"].weight
    assert list(network_state(tied, torch.float32)) == ["a.weight", "a.bias", "b.bias"]


def test_inside_every_holder_of_a_tensor_has_the_same_stand_in():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model.own, model.dtype, model.kept = torch.ones(3), torch.float16, nn.Linear(2, 2).weight
    before = everything(model)
    with frozen(model, own_copies(network_state(model, torch.float64))):
        assert model[0].weight is model[1].weight
        assert model.own.dtype == model.dtype == torch.float64
        model[0].weight.add_(1.0)
        model.own.add_(1.0)
        model.kept, model.new = None, 1
        model[0].register_buffer("another", torch.ones(1))
        model.add_module("more", nn.ReLU())
    assert_unchanged(before, everything(model))


def test_weights_are_read_on_stand_ins():
    model = nn.Sequential(spectral_norm(nn.Linear(5, 4)), nn.BatchNorm1d(4), nn.ReLU())
    before = everything(model)
    weight = weight_of(model, model[0])
    assert_unchanged(before, everything(model))
    assert_close(weight, deepcopy(model).eval()[0].weight.detach())
    assert not weight.requires_grad
    assert weight_of(model, model[2]) is None
    assert weight_of(model.half(), model[1]).dtype == torch.float32
    assert weight_of(model.double(), model[1]).dtype == torch.float64


def test_dropout_stays_on_with_masks_of_a_seed():
    model, inputs = network(), torch.randn(7, 5)
    before = everything(model)
    one, same, other = (frozen_call(model, inputs, dropout_seed=seed) for seed in (3, 3, 4))
    assert_unchanged(before, everything(model))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)
    assert not torch.allclose(one, frozen_call(model, inputs))


def test_modes_come_back():
    model = network().train()
    model[3].eval()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model] == [True, True, True, False, True, True]


def test_refuses_torchscript():
    with pytest.raises(
        ValueError, match="Expected a network of Python modules, found a TorchScript one; pass the"
    ):
        frozen_call(nn.Sequential(torch.jit.script(nn.Linear(5, 2))), torch.randn(3, 5))


def test_a_checkpointed_batch_norm_that_runs_twice_is_refused():
    norm = nn.BatchNorm1d(4)
    model = nn.Sequential(nn.Linear(5, 4), norm, nn.Linear(4, 3))

    def output(x):
        hidden = model[0](x)
        for _ in range(2):
            hidden = checkpoint(norm, hidden, use_reentrant=False)
        return model[2](hidden)

    trace = trace_network(model, torch.randn(6, 5), "2", output=output)
    assert list(trace.layers) == ["2"]
    with pytest.raises(
        ValueError, match=r"Expected the checkpointed layer '1' to run once in a pass, .*; put it into ev"
    ):
        trace_network(model, torch.randn(6, 5), "0", output=output)


def test_no_autocast():
    model, inputs = network(), torch.randn(7, 5)
    expected = frozen_call(model, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = frozen_call(model, inputs)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_gradients_under_inference_mode():
    model = network()
    state = network_state(model, torch.float32)
    state["0.weight"].requires_grad_()
    with torch.inference_mode():
        inputs = torch.randn(7, 5)
        found = frozen_call(model, inputs, state=state)
    assert not found.is_inference()
    assert found.requires_grad


def test_compiled_networks_run_eagerly():
    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    class Small(nn.Module):  # torch 2.6 leaves a bare Sequential uncompiled
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 6)

        def forward(self, x):
            return self.linear(x).relu()

    model, inputs = Small(), torch.randn(7, 5)
    expected = frozen_call(model, inputs)
    model.compile(backend=backend)
    assert torch.equal(frozen_call(model, inputs), expected)
    assert torch.equal(layer_features(model, inputs, ["linear"])["linear"], model.linear(inputs))
    assert compiled == []
    model(inputs)
    assert len(compiled) > 0  # the user's own calls are compiled as before


def test_random_states_come_back_after_an_error():
    model = nn.Identity()
    before = everything(model)

    def draw_and_fail():
        with preserved_random_state(torch.device("cpu")):
            torch.rand(3), np.random.rand(3), random.random()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        draw_and_fail()
    assert_unchanged(before, everything(model))
