"""Layers that cannot be used are left out by name; the others are what they are without them."""

import pickle

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.small_networks import draw_views
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.distributed import all_gather_rows, all_sum, identity
from lightning_ssl_theory.operators import (
    CoveredLayers,
    covariance_operators,
    covariance_scalars,
    covariance_spectra,
)

REASON = "has a gradient that is not finite"
SENTENCE = "Expected finite gradients of the output at layer 'high', found NaN or infinity; look for a square"


class Branches(nn.Module):
    """A branch through the root of a square beside another one; a layer used twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.high, self.side, self.twice, self.head = (nn.Linear(5, 5) for _ in range(4))

    def forward(self, x):
        return self.head(self.high(x).square().sqrt() + self.side(self.twice(self.twice(x)).tanh()))


def branches(*, zeroed=True):
    """With a zero at the root: the outputs are finite, the gradients at `high` are not."""
    model = Branches().double()
    if zeroed:
        with torch.no_grad():
            model.high.weight[0], model.high.bias[0] = 0, 0
    return model


def seeded():
    return torch.Generator().manual_seed(0)


FUNCTIONS = [
    pytest.param(lambda *args, **kw: covariance_scalars(*args, num_probes=3, generator=seeded(), **kw), id="scalars"),
    pytest.param(lambda *args, **kw: covariance_scalars(*args, num_probes=None, **kw), id="exact-scalars"),
    pytest.param(lambda *args, **kw: covariance_spectra(*args, num_eigenvalues=2, method="gram", **kw), id="gram"),
    pytest.param(lambda *args, **kw: covariance_spectra(*args, num_eigenvalues=2, method="lanczos", **kw), id="lanczos"),
    pytest.param(covariance_operators, id="operators"),
]  # fmt: skip


@pytest.mark.parametrize("look", FUNCTIONS)
def test_only_the_layers_that_cannot_be_used_are_left_out(look):
    views = draw_views((5,))
    found = look(branches(), views, "*")
    assert list(found) == ["side", "head"]
    assert found.left_out == {"high": REASON, "twice": "sees more than one input in a forward pass"}
    assert set(look(branches(zeroed=False), views, "*")) == {"high", "side", "head"}


@pytest.mark.parametrize("look", FUNCTIONS)
def test_a_layer_named_by_its_path_or_the_last_one_is_refused(look):
    with pytest.raises(ValueError, match=SENTENCE):
        look(branches(), draw_views((5,)), ["high", "side"])
    with pytest.raises(ValueError, match=SENTENCE):
        look(branches(), draw_views((5,)), "h?gh")


def test_the_others_are_what_they_are_without_it():
    views = draw_views((5,))
    found = covariance_scalars(branches(), views, num_probes=None)
    expected = covariance_scalars(branches(), views, ["side", "head"], num_probes=None)
    for name, values in expected.items():
        assert_close(found[name].trace, values.trace)
        assert_close(found[name].growth_rate, values.growth_rate)
    assert expected.left_out == {}


def test_no_layers_have_no_spectra():
    assert covariance_spectra(branches(), draw_views((5,)), ()) == {}


def test_a_dictionary_that_travels():
    found = CoveredLayers({"a": 1}, {"b": "why"})
    again = pickle.loads(pickle.dumps(found))
    assert (again, again.left_out) == ({"a": 1}, {"b": "why"})


def on_rank(rank, world_size):
    """The gradients are infinite on one rank only: a sample at zero of a layer without bias."""
    model = nn.Sequential(nn.Linear(5, 4, bias=False), Root(), nn.Linear(4, 3)).double()
    views = draw_views((5,), num_samples=6)[3 * rank : 3 * rank + 3].clone()
    if rank == 1:
        views[2] = 0
    scalars = covariance_scalars(model, views, generator=seeded(), all_sum=all_sum)
    spectra = covariance_spectra(
        model, views, nn.Linear, num_eigenvalues=2, all_sum=all_sum, all_gather_rows=all_gather_rows
    )
    alone = covariance_scalars(model, views, generator=seeded(), all_sum=identity)
    return [(list(found), found.left_out) for found in (scalars, spectra)], list(alone)


class Root(nn.Module):
    def forward(self, x):
        return x.square().sum(1, keepdim=True).sqrt() + x


@pytest.mark.ddp
def test_all_ranks_leave_the_same_layers_out():
    (first, alone), (second, other) = run_ranks(on_rank, 2)
    assert first == second == [(["2"], {"0": REASON})] * 2
    assert alone == ["0", "2"]  # the first rank by itself sees nothing wrong
    assert other == ["2"]
