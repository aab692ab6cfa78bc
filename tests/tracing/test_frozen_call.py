"""A pass through a frozen network gives what it should and changes nothing."""

import random
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.tracing.frozen_call import (
    frozen_call,
    layer_features,
    network_state,
    pooled,
    preserved_random_state,
)


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


def everything(model):
    """All that a pass might change."""
    return deepcopy(
        {
            "tensors": model.state_dict(),
            "gradients": {name: p.grad for name, p in model.named_parameters()},
            "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
            "modes": {name: m.training for name, m in model.named_modules()},
            "hooks": {name: len(m._forward_hooks) for name, m in model.named_modules()},
            "torch": torch.get_rng_state(),
            "numpy": torch.from_numpy(np.random.get_state()[1].astype("int64")),
            "python": random.getstate(),
        }
    )


def assert_unchanged(before, after, path=""):
    if isinstance(before, dict):
        assert before.keys() == after.keys()
        for key in before:
            assert_unchanged(before[key], after[key], f"{path}/{key}")
    elif isinstance(before, torch.Tensor):
        assert torch.equal(before, after), path
    else:
        assert before == after, path


@pytest.mark.parametrize("batch_statistics", [None, {}])
def test_nothing_changes(batch_statistics):
    model, inputs = network(), torch.randn(7, 5)
    model[3].eval()  # modes differ between the modules
    model[5].weight.requires_grad_(False)
    model(inputs).sum().backward()
    before = everything(model)
    frozen_call(model, inputs, batch_statistics=batch_statistics, taps={"0": lambda *_: None})
    assert_unchanged(before, everything(model))
    model[1](torch.randn(4, 6))  # and such changes would be seen
    with pytest.raises(AssertionError, match=r"tensors/1\.running_mean"):
        assert_unchanged(before, everything(model))


def test_nothing_changes_when_the_pass_breaks():
    model, inputs = network(), torch.randn(7, 5)
    before = everything(model)

    def broken(*_):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        frozen_call(model, inputs, taps={"4": broken}, batch_statistics={})
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
    others = [torch.tensor(6.0), 2 * inputs.sum(0)]
    mean = (inputs.sum(0) + others[1]) / 12
    others.append((2 * inputs - mean).square().sum(0))
    sums = iter(others)
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


def test_state_shares_parameters_and_copies_buffers():
    model = network()
    state = network_state(model, torch.float32)
    assert state["0.weight"].data_ptr() == model[0].weight.data_ptr()
    assert not state["0.weight"].requires_grad
    assert state["1.running_mean"].data_ptr() != model[1].running_mean.data_ptr()
    assert state["1.num_batches_tracked"].dtype == torch.int64
    assert network_state(model.half(), torch.float32)["0.weight"].dtype == torch.float32


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


def test_layer_features_of_every_shape():
    class Shapes(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix, self.tokens, self.image, self.scalar = (nn.Identity() for _ in range(4))

        def forward(self, x):
            self.matrix(x)
            self.tokens(x[:, None] + torch.arange(3.0)[:, None])
            self.image(x[:, :, None, None] + torch.tensor([[0.0, 4.0]]))
            return self.scalar(x[:, 0])

    x = torch.randn(4, 2)
    found = layer_features(Shapes(), x, ["matrix", "tokens", "image", "scalar", ""])
    expected = {"matrix": x, "tokens": x + 1, "image": x + 2, "scalar": x[:, :1], "": x[:, :1]}
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert_close(found[name], value)


def test_features_are_those_before_an_activation_in_place():
    model, inputs = network(), torch.randn(7, 5)
    found = layer_features(model, inputs, ["1", "2"])
    assert (found["1"] < 0).any()
    assert_close(found["2"], found["1"].relu())
    assert not found["1"].requires_grad


def test_rejects_layers_that_cannot_be_read():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.unused, self.recurrent = nn.Linear(2, 2), nn.Linear(2, 2), nn.LSTM(2, 2)

        def forward(self, x):
            return self.recurrent(self.shared(self.shared(x))[:, None])[0][:, 0]

    model, inputs = Odd(), torch.randn(3, 2)
    hooks = {name: len(m._forward_hooks) for name, m in model.named_modules()}
    with pytest.raises(ValueError, match="Expected the forward pass to reach layer 'unused', it did not"):
        layer_features(model, inputs, ["unused"])
    with pytest.raises(
        ValueError, match="Expected layer 'shared' to see one input in a forward pass, it saw two"
    ):
        layer_features(model, inputs, ["shared"])
    with pytest.raises(
        TypeError, match="Expected layer 'recurrent' to put out one tensor, got tuple; name a layer inside"
    ):
        layer_features(model, inputs, ["recurrent"])
    assert hooks == {name: len(m._forward_hooks) for name, m in model.named_modules()}
    assert pooled(torch.ones(3, 4), "any").shape == (3, 4)


def test_random_states_come_back_after_an_error():
    before = everything(nn.Identity())

    def draw_and_fail():
        with preserved_random_state(torch.device("cpu")):
            torch.rand(3), np.random.rand(3), random.random()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        draw_and_fail()
    assert_unchanged(before, everything(nn.Identity()))
