"""Spectra from all unit probes, against the dense operator."""

import sys

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.dense_operator import connections_loop, plugin_loop
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.operators import effective_rank, signal_spectrum, trace_network

F64 = torch.float64


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)).double()


def draw_views(num_samples):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(num_samples, 2, 5, dtype=F64, generator=generator)


def spectra(views, layers=("0", "2")):
    return signal_spectrum(trace_network(network(), views.flatten(0, 1)), layers, num_views=2)


@pytest.mark.parametrize("num_samples", [3, 40], ids=["fewer-rows-than-weights", "more-rows"])
def test_equals_the_dense_spectrum(num_samples):
    views = draw_views(num_samples)
    for name, found in spectra(views).items():
        dense = plugin_loop(connections_loop(network(), views, name))
        expected = torch.linalg.eigvalsh(dense).flip(0)
        assert len(found) == min(len(expected), 2 * num_samples)
        assert_close(found, expected[: len(found)], rtol=1e-9, atol=1e-12)
        assert_close(found.sum(), dense.trace())
        assert 1 <= effective_rank(found) <= len(found)


def test_nothing_is_asked_nothing_is_done():
    assert spectra(draw_views(3), layers=()) == {}


def on_rank(rank, world_size):
    views = draw_views(7)
    own = views[:5] if rank == 0 else views[5:]
    return spectra(own)["0"]


@pytest.mark.ddp
def test_uneven_ranks_equal_the_whole():
    first, second = run_ranks(on_rank, 2)
    whole = spectra(draw_views(7))["0"]
    assert_close(first, whole, rtol=1e-9, atol=1e-12)
    assert torch.equal(first, second)
    alone = spectra(draw_views(7)[:5])["0"]
    assert not torch.allclose(alone[:3], whole[:3], rtol=1e-2)


def test_rejects_large_and_unreached_layers(monkeypatch):
    module = sys.modules[
        "lightning_ssl_theory.operators.signal_spectrum"
    ]  # the package has the function by this name
    monkeypatch.setattr(module, "MAX_FACTOR_ENTRIES", 100)
    with pytest.raises(
        ValueError, match=r"Expected at most 100 gradient entries .* of layer '0', got 180; name a smaller"
    ):
        spectra(draw_views(3), ["0"])
    with pytest.raises(ValueError, match="Expected the forward pass to reach layer '7', it did not"):
        spectra(draw_views(3), ["7"])
