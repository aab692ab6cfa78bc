"""Layers chosen by path, pattern and type."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from lightning_ssl_theory.operators import find_module, resolve_layers


class Sharded(nn.Parameter):
    """Looks like a DTensor: a part of a weight that knows its mesh."""

    device_mesh = "cpu"


class Network(nn.Module):
    """One of everything; no pass is needed to choose layers."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.block = nn.Sequential(nn.Conv2d(2, 2, 1), nn.GroupNorm(1, 2), nn.Conv1d(2, 2, 1))
        self.volume = nn.Conv3d(1, 1, 1)
        self.bare = nn.LayerNorm(2, elementwise_affine=False)
        self.computed = orthogonal(nn.Linear(3, 3))
        self.sharded = nn.Linear(2, 2)
        self.sharded.weight = Sharded(self.sharded.weight.detach())
        self.flat = nn.Linear(2, 2)
        self.flat.weight = nn.Parameter(torch.zeros(4))  # as FSDP leaves it
        self.encoder, self.decoder = nn.Linear(2, 2), nn.Linear(2, 2)
        self.decoder.weight = self.encoder.weight
        self.head = nn.Linear(2, 2)


CHOICES = [
    pytest.param(None, ["stem", "block.0", "block.2", "head"], id="all"),
    pytest.param("head", ["head"], id="one-path"),
    pytest.param(["head", "stem", "head"], ["head", "stem"], id="order-asked-for"),
    pytest.param("block.*", ["block.0", "block.1", "block.2"], id="pattern"),
    pytest.param("block.[02]", ["block.0", "block.2"], id="character-class"),
    pytest.param("?tem", ["stem"], id="one-character"),
    pytest.param(nn.Conv2d, ["stem", "block.0"], id="type"),
    pytest.param([nn.GroupNorm, "s*", "head"], ["block.1", "stem", "head"], id="mixed"),
    pytest.param(nn.Module, ["stem", "norm", "block.0", "block.1", "block.2", "head"], id="every-supported"),
    pytest.param([], [], id="none"),
]


@pytest.mark.parametrize(("choice", "expected"), CHOICES)
def test_chooses(choice, expected):
    assert resolve_layers(Network(), choice) == expected


def test_the_model_itself_can_be_the_layer():
    assert resolve_layers(nn.Linear(2, 2), None) == [""]
    assert resolve_layers(nn.Linear(2, 2), "") == [""]


REFUSED = [
    pytest.param("volume", r"Expected layer 'volume' to be a Linear, Conv1d, Conv2d or normalisation layer, got Conv3d; name a layer with such a weight", id="type"),
    pytest.param("block", "Expected layer 'block' to be a Linear, .* got Sequential", id="container"),
    pytest.param("bare", "Expected layer 'bare' to hold its weight as a parameter, found none or a computed one; leave layers without one", id="no-weight"),
    pytest.param("computed", "Expected layer 'computed' to hold its weight as a parameter, .* or with parametrizations, out of `layers`", id="parametrized"),
    pytest.param("sharded", r"Expected layer 'sharded' to hold its whole weight, found a part of it of shape \(2, 2\); use a strategy that does not shard", id="sharded"),
    pytest.param("flat", r"Expected layer 'flat' to hold its whole weight, found a part of it of shape \(4,\)", id="flat"),
    pytest.param("decoder", "Expected layer 'decoder' to have its weight for itself, it shares it with 'encoder'; leave both out", id="tied"),
    pytest.param("encoder", "Expected layer 'encoder' to have its weight for itself, it shares it with 'decoder'", id="tied-first"),
    pytest.param("stemm", "Expected the path of a layer of Network, got 'stemm'; the nearest are 'stem'", id="unknown"),
    pytest.param("nothing.*", r"Expected the pattern 'nothing\.\*' to choose a layer of Network, it chooses none; layers with a covariance operator are, among others, 'stem', 'norm'", id="pattern"),
    pytest.param("enc*", r"Expected the pattern 'enc\*' to choose a layer", id="pattern-refused-only"),
    pytest.param(nn.Conv3d, "Expected the type Conv3d to choose a layer of Network, it chooses none", id="type-chooses-none"),
]  # fmt: skip


@pytest.mark.parametrize(("choice", "message"), REFUSED)
def test_refuses(choice, message):
    with pytest.raises(ValueError, match=message):
        resolve_layers(Network(), choice)
    with pytest.raises(ValueError, match=message):
        resolve_layers(Network(), ["head", choice])


def test_a_network_without_candidates_says_so():
    with pytest.raises(ValueError, match="among others, none"):
        resolve_layers(nn.ReLU(), nn.Linear)


def test_finds_modules():
    model = Network()
    assert find_module(model, "block.1") is model.block[1]
    assert find_module(model, "") is model
    with pytest.raises(ValueError, match=r"got 'block\.7'; the nearest are 'block"):
        find_module(model, "block.7")
