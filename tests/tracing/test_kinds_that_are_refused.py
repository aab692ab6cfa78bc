"""Networks that no look is right for are refused in one sentence, before they are changed."""

import pytest
import torch
from helpers.one_look import assert_unchanged, everything
from helpers.small_networks import built, draw_views
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.operators import covariance_scalars
from lightning_ssl_theory.tracing import frozen_call, layer_features, trace_network
from lightning_ssl_theory.tracing.chunked_trace import ChunkedTrace


class Sharded(nn.Parameter):
    """Looks like a DTensor: a part of a weight that knows its mesh."""

    device_mesh = "cpu"


class Flat(nn.Parameter):
    """Looks like a weight of FSDP1: a view into a part of several weights."""

    _fsdp_flattened = True


class Called(nn.Module):
    """A linear layer with a weight of some class, that remembers whether forward was called."""

    def __init__(self, kind):
        super().__init__()
        self.head, self.calls = nn.Linear(5, 3), 0
        self.head.weight = kind(self.head.weight.detach())

    def forward(self, x):
        self.calls += 1
        return self.head(x)


class MixesSamples(nn.Module):
    """Every sample sees the mean of the batch."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        hidden = self.first(x)
        return self.head((hidden - hidden.mean(0)).tanh())


class Masking(nn.Module):
    """A masked autoencoder: tokens are hidden at random, in evaluation mode too."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(x * (torch.rand_like(x) > 0.5))


class WithoutGraph(nn.Module):
    """A whole network that runs without a graph, as an EMA teacher does."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        with torch.no_grad():
            return self.head(x)


VIEWS = draw_views((5,), num_samples=4)
ROWS = VIEWS.flatten(0, 1)
SHARDED = (
    "Expected parameters that every rank holds whole, found a part of .*; use a strategy that does not shard"
)
LAZY = "Expected initialised parameters, found the lazy '0.weight'; run a batch through the network in `configure_model`"
MIXED = (
    "Expected each row of the output to depend on its own sample only, a change of one sample changes others"
)
REFUSED = [
    pytest.param(lambda: Called(Sharded), SHARDED, id="sharded"),
    pytest.param(lambda: Called(Flat), SHARDED, id="flat-sharded"),
    pytest.param(lambda: nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 3)), LAZY, id="lazy"),
    pytest.param(MixesSamples, MIXED, id="mixes-samples"),
    pytest.param(WithoutGraph, "Expected the output to depend on a traced layer with a gradient, it does not.* without torch.no_grad", id="without-a-graph"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_refuses(build, message):
    model = build().double()
    before = everything(model)
    for look in (
        lambda: covariance_scalars(model, VIEWS, generator=torch.Generator()),
        lambda: trace_network(model, ROWS),
    ):
        with pytest.raises(ValueError, match=message):
            look()
    assert_unchanged(before, everything(model))


@pytest.mark.parametrize("kind", [Sharded, Flat])
def test_sharded_parameters_are_refused_before_any_forward(kind):
    model = Called(kind).double()
    called = []
    model.register_forward_pre_hook(lambda *_: called.append(1))
    for look in (
        lambda: frozen_call(model, ROWS),
        lambda: layer_features(model, ROWS, ["head"]),
        lambda: covariance_scalars(model, VIEWS),
    ):
        with pytest.raises(ValueError, match=SHARDED):
            look()
    assert called == []
    assert model.calls == 0


def test_features_where_samples_mix_are_refused():
    model = built(MixesSamples)
    with pytest.raises(
        ValueError, match=r"Expected layer 'head' to have entries of one sample each, .* name a layer whose"
    ):
        layer_features(model, ROWS, ["head"])
    assert torch.equal(layer_features(model, ROWS, ["first"])["first"], model.first(ROWS).detach())


def test_random_masks_are_the_same_in_one_pass_and_refused_in_chunks():
    model, views = built(Masking), draw_views((6,), num_samples=6)
    before = everything(model)
    trace = trace_network(model, views.flatten(0, 1))
    with torch.random.fork_rng([]):
        masked = views.flatten(0, 1) * (torch.rand(12, 6, dtype=torch.float64) > 0.5)
    assert_close(trace.layers["head"].inputs, masked)
    whole = ChunkedTrace(model, views)
    assert_close(whole.outputs.flatten(0, 1), trace.outputs)
    parts = ChunkedTrace(model, views, memory_budget=1000)
    assert parts.num_chunks > 1
    with pytest.raises(
        ValueError, match=r"Expected a network that gives a sample the same .*; raise `memory_budget`"
    ):
        parts.map(id)
    assert_unchanged(before, everything(model))
