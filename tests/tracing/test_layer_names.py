"""Layers chosen by path, pattern and type."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from lightning_ssl_theory.tracing import find_module, resolve_layers
from lightning_ssl_theory.tracing.layer_names import WeightPlace, exact_names, is_exact, weight_places


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
        self.encoder, self.decoder = nn.Linear(2, 2), nn.Linear(2, 2)
        self.decoder.weight = self.encoder.weight
        self.attention = nn.MultiheadAttention(2, 1)
        self.crossing = nn.MultiheadAttention(2, 1, kdim=3, bias=False)
        self.codes = nn.Parameter(torch.zeros(3, 2))
        self.scale, self.extra_bias = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(2, 2))
        self.head = nn.Linear(2, 2)


ALL = [
    "codes", "stem", "norm", "block.0", "block.1", "block.2", "volume", "computed.parametrizations.weight.original", "encoder",
    "attention.in_proj_weight", "attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.out_proj",
    "crossing.q_proj", "crossing.k_proj", "crossing.v_proj", "crossing.out_proj", "head",
]  # fmt: skip


CHOICES = [
    pytest.param(None, ALL, id="all"),
    pytest.param("head", ["head"], id="one-path"),
    pytest.param(["head", "stem", "head"], ["head", "stem"], id="order-asked-for"),
    pytest.param("block.*", ["block.0", "block.1", "block.2"], id="pattern"),
    pytest.param("block.[02]", ["block.0", "block.2"], id="character-class"),
    pytest.param("?tem", ["stem"], id="one-character"),
    pytest.param(nn.Conv2d, ["stem", "block.0"], id="type"),
    pytest.param(["torch.nn.Conv2d"], ["stem", "block.0"], id="type-by-its-name"),
    pytest.param([nn.GroupNorm, "s*", "head"], ["block.1", "stem", "head"], id="mixed"),
    pytest.param("*.q_proj", ["attention.q_proj", "crossing.q_proj"], id="parts-of-attention"),
    pytest.param("crossing.k_proj", ["crossing.k_proj"], id="one-part"),
    pytest.param("codes", ["codes"], id="matrix-of-another-name"),
    pytest.param("decoder", ["decoder"], id="second-name-of-a-weight"),
    pytest.param([], [], id="none"),
]


@pytest.mark.parametrize(("choice", "expected"), CHOICES)
def test_chooses(choice, expected):
    assert resolve_layers(Network(), choice) == expected


def test_the_model_itself_can_be_the_layer():
    assert resolve_layers(nn.Linear(2, 2), None) == [""]
    assert resolve_layers(nn.Linear(2, 2), "") == [""]
    assert set(resolve_layers(nn.MultiheadAttention(2, 1), None)) == {
        "in_proj_weight",
        *"qkv",
        "out_proj",
    } - set("qkv") | {f"{part}_proj" for part in "qkv"}


def test_where_weights_are():
    places = weight_places(Network())
    assert list(places) == ALL
    assert places["head"] == WeightPlace("head.weight")
    assert places["attention.v_proj"] == WeightPlace("attention.in_proj_weight", 2)
    assert places["crossing.v_proj"] == WeightPlace("crossing.v_proj_weight")
    aliases = weight_places(Network(), with_aliases=True)
    assert aliases["decoder"] == aliases["encoder"] == WeightPlace("encoder.weight")


def test_paths_are_exact_and_patterns_are_not():
    assert [is_exact(choice) for choice in ("a.b", "a.*", "a?", "[a]", nn.Linear)] == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert exact_names(["a", "b*", nn.Linear, "c"]) == {"a", "c"}
    assert exact_names("a") == {"a"}
    assert exact_names(nn.Linear) == exact_names(None) == set()


NO_WEIGHT = "to hold its weight as a parameter, found none or a computed one in"
REFUSED = [
    pytest.param("block", f"Expected layer 'block' {NO_WEIGHT} Sequential; name a layer inside it, or leave it out", id="container"),
    pytest.param("bare", f"Expected layer 'bare' {NO_WEIGHT} LayerNorm", id="no-weight"),
    pytest.param("computed", f"Expected layer 'computed' {NO_WEIGHT} ParametrizedLinear", id="parametrized"),
    pytest.param("attention", f"Expected layer 'attention' {NO_WEIGHT} MultiheadAttention", id="attention"),
    pytest.param("stemm", "Expected the path of a layer of Network, got 'stemm'; the nearest are 'stem'", id="unknown"),
    pytest.param("torch.nn.Bilinear", "Expected the path of a layer of Network, got 'torch.nn.Bilinear'", id="type-of-no-layer"),
    pytest.param("torch.nn.functional", "Expected the path of a layer of Network, got 'torch.nn.functional'", id="no-type"),
    pytest.param("scale", "Expected the path of a layer of Network, got 'scale'", id="vector"),
    pytest.param("extra_bias", "Expected the path of a layer of Network, got 'extra_bias'", id="bias"),
    pytest.param("nothing.*", r"Expected the pattern 'nothing\.\*' to choose a layer of Network, it chooses none; layers with a weight are, among others, 'codes', 'stem'", id="pattern"),
    pytest.param("decod*", r"Expected the pattern 'decod\*' to choose a layer", id="pattern-of-a-second-name"),
    pytest.param(nn.ConvTranspose2d, "Expected the type ConvTranspose2d to choose a layer of Network, it chooses none", id="type-chooses-none"),
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
