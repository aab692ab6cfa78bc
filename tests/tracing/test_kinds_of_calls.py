"""What networks are given, how they are called and what they put out."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from helpers.one_look import Kind, assert_unchanged, check_kind, everything
from helpers.small_networks import F64, built, draw_views
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.operators import covariance_scalars, half_squared_distances
from lightning_ssl_theory.tracing import layer_features, rehearse, trace_network


class Output(OrderedDict):
    """transformers' ModelOutput: keys, attributes and indices."""

    def __getitem__(self, key):
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)

    def __getattr__(self, name):
        return self[name]


Pair = namedtuple("Pair", ["hidden", "pooled"])


class Encoder(nn.Module):
    """Two linear maps whose outputs come in a container; a keyword argument names what goes in."""

    def __init__(self, container, backbone_by_keyword=False):
        super().__init__()
        self.container, self.by_keyword = container, backbone_by_keyword
        self.backbone, self.pooler = Inner(), nn.Linear(4, 3)

    def forward(self, pixel_values):
        hidden = self.backbone(hidden_states=pixel_values) if self.by_keyword else self.backbone(pixel_values)
        return self.container([("hidden", hidden), ("pooled", self.pooler(hidden))])


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 4)

    def forward(self, hidden_states):
        return self.layer(input=hidden_states).tanh()


class Tokens(nn.Module):
    """A text encoder: ids of any integer kind, a mask of booleans, averages over what it lets through."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.layer, self.head = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), nn.Linear(4, 3)

    def forward(self, input_ids, attention_mask=None):
        hidden = self.embedding(input_ids)
        shown = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden = self.layer(hidden, src_key_padding_mask=shown == 0)
        weights = shown.to(hidden) / shown.sum(1, keepdim=True)
        return {"pooled": self.head((hidden * weights[..., None]).sum(1)), "hidden": hidden}


class OneDictionary(nn.Module):
    """A LightningModule's forward that takes the dictionary as one argument."""

    def __init__(self):
        super().__init__()
        self.tokens = Tokens()

    def forward(self, batch):
        return self.tokens(batch["input_ids"], batch["attention_mask"])["pooled"]


class Bytes(nn.Module):
    """Images of bytes that forward scales."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3, 3)

    def forward(self, x):
        x = x.to(self.conv.weight.dtype) / 255 if x.dtype == torch.uint8 else x
        return self.head(self.conv(x).tanh().mean((2, 3)))


class OwnPrecision(nn.Module):
    """Casts its inputs to the precision that it was built in, kept in an attribute, or read from a parameter."""

    def __init__(self, dtype=torch.float16):
        super().__init__()
        self.dtype, self.first, self.head = dtype, nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.first(x.to(self.dtype)).tanh().to(self.head.weight.dtype))


class EmbedLayer(nn.Module):
    """A *layer* called embed, on the way to the output."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.embed(x).tanh())


class EmbedMethod(nn.Module):
    """A *method* called embed is what enters the loss; forward's own head is off its path."""

    def __init__(self):
        super().__init__()
        self.first, self.projector, self.head = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(4, 3)

    def embed(self, x):
        return self.projector(self.first(x).tanh())

    def forward(self, x):
        return self.head(self.first(x))


VIEWS = draw_views((5,), num_samples=4)
DRAWN = torch.Generator().manual_seed(4)
IDS = torch.randint(0, 11, (4, 2, 5), generator=DRAWN)
MASK = (torch.arange(5) < torch.randint(2, 6, (4, 2, 1), generator=DRAWN)).long()
TEXT = {"input_ids": IDS, "attention_mask": MASK}
BYTES = torch.randint(0, 256, (4, 2, 1, 5, 5), generator=DRAWN, dtype=torch.uint8)
AS_IT_IS = "does not enter a linear map, a convolution or a normalisation as it is"
SPLIT = {
    f"layer.self_attn.{part}_proj": ("layer.self_attn.in_proj_weight", slice(4 * i, 4 * i + 4))
    for i, part in enumerate("qkv")
}
TEXT_LAYERS = (*SPLIT, "layer.self_attn.out_proj", "layer.linear1", "layer.linear2", "head")


def encoder(container, output, key="pooled", **options):
    covered = ("backbone.layer",) if key in ("hidden", 0) else ("backbone.layer", "pooler")
    left_out = {} if len(covered) == 2 else {"pooler": "does not lead to the output"}
    return Kind(
        lambda: Encoder(container, **options),
        VIEWS,
        covered,
        left_out,
        {"backbone": lambda value: value, "backbone.layer": lambda value: value},
        call=lambda model, x: model(pixel_values=x)[key],
        output=output,
    )


def text(build, call, output=None, prefix=""):
    weights = {f"{prefix}{name}": (f"{prefix}{key}", part) for name, (key, part) in SPLIT.items()}
    covered = tuple(f"{prefix}{name}" for name in TEXT_LAYERS)
    left_out = {f"{prefix}embedding": AS_IT_IS}
    return Kind(
        build, TEXT, covered, left_out, {f"{prefix}layer": lambda v: v.mean(1)}, call, output, weights
    )


def two(build, **options):
    return Kind(build, options.pop("views", VIEWS), options.pop("covered"), **options)


CALLS = [
    pytest.param(encoder(dict, "pooled"), id="dictionary-by-key"),
    pytest.param(encoder(dict, "hidden", "hidden"), id="dictionary-by-another-key"),
    pytest.param(encoder(Output, "pooled"), id="model-output-by-key"),
    pytest.param(encoder(Output, 1, 1), id="model-output-by-index"),
    pytest.param(encoder(lambda parts: tuple(v for _, v in parts), 1, 1), id="tuple-by-index"),
    pytest.param(encoder(lambda parts: Pair(*(v for _, v in parts)), -1, 1), id="named-tuple-by-index"),
    pytest.param(encoder(dict, lambda model: lambda x: model(x)["pooled"]), id="dictionary-by-a-callable"),
    pytest.param(encoder(Output, "pooled", backbone_by_keyword=True), id="layers-called-by-keyword"),
    pytest.param(text(Tokens, lambda model, rows: model(**rows)["pooled"], "pooled"), id="dictionary-of-inputs"),
    pytest.param(text(OneDictionary, lambda model, rows: model(rows), prefix="tokens."), id="dictionary-as-one-argument"),
    pytest.param(
        text(OneDictionary, lambda m, rows: m(rows), lambda m: lambda batch: m.tokens(**batch)["pooled"], "tokens."),
        id="dictionary-into-a-callable",
    ),
    pytest.param(
        Kind(Tokens, IDS, TEXT_LAYERS, {"embedding": AS_IT_IS}, call=lambda m, ids: m(ids)["pooled"], output="pooled", weights=SPLIT),
        id="token-ids",
    ),
    pytest.param(two(Bytes, views=BYTES, covered=("conv", "head")), id="bytes"),
    pytest.param(two(EmbedLayer, covered=("embed", "head")), id="layer-called-embed"),
    pytest.param(
        two(EmbedMethod, covered=("first", "projector"), call=lambda m, x: m.embed(x)),
        id="method-called-embed",
    ),
]  # fmt: skip


@pytest.mark.parametrize("kind", CALLS)
def test_a_look(kind):
    check_kind(kind)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_is_looked_at_in_that_of_its_inputs(dtype):
    """Weights of half precision are exact in float64: the look is that of a network that never was coarse."""
    model = built(OwnPrecision).to(dtype)
    model.dtype = dtype
    before = everything(model)
    found = covariance_scalars(model, VIEWS, num_probes=None, generator=torch.Generator())
    assert_unchanged(before, everything(model))
    exact = built(OwnPrecision).to(dtype).double()
    exact.dtype = F64
    expected = covariance_scalars(exact, VIEWS, num_probes=None)
    for name, scalars in expected.items():
        assert_close(found[name].trace, scalars.trace)
        assert_close(found[name].growth_rate, scalars.growth_rate)
    rows = VIEWS.flatten(0, 1)
    assert_close(layer_features(model, rows, ["head"]), layer_features(exact, rows, ["head"]))


def test_bytes_and_ids_arrive_as_they_are():
    seen = []
    model = nn.Linear(3, 2).double()

    def output(batch):
        seen.append({key: value.dtype for key, value in batch.items()})
        return model(batch["x"])

    kinds = {"x": torch.float32, "ids": torch.int32, "mask": torch.bool, "pixels": torch.uint8}
    inputs = {key: torch.ones(2, 3).cumsum(0).to(dtype) for key, dtype in kinds.items()}
    trace_network(model, inputs, output=output)
    assert seen
    assert all(dtypes == kinds | {"x": torch.float32} for dtypes in seen)


CONTAINERS = [
    pytest.param(dict, "got dict with the keys 'hidden', 'pooled'; choose one by `output=`", id="dict"),
    pytest.param(
        Output, "got Output with the keys 'hidden', 'pooled'; choose one by `output=`", id="model-output"
    ),
    pytest.param(
        lambda parts: tuple(v for _, v in parts), "got tuple of 2; choose one by `output=`", id="tuple"
    ),
]


@pytest.mark.parametrize(("container", "message"), CONTAINERS)
def test_outputs_that_are_no_tensor_are_named_with_their_keys(container, message):
    model = built(lambda: Encoder(container))
    with pytest.raises(TypeError, match=message):
        trace_network(model, VIEWS.flatten(0, 1))
    with pytest.raises(TypeError, match=message):
        layer_features(model, VIEWS.flatten(0, 1), [""])
    with pytest.raises(
        ValueError, match=r"Expected `output` to be the key or index of what .* got 'other' for"
    ):
        trace_network(model, VIEWS.flatten(0, 1), output="other")


def test_distances_far_from_zero_in_single_precision():
    """r of features with mean 1000: halved squared distances in float64 of the very same rows."""
    features = 1000 + torch.randn(40, 16)
    rows = features.double()
    expected = torch.stack([torch.stack([(a - b).square().sum() / 2 for b in rows]) for a in rows])
    assert_close(half_squared_distances(features).double(), expected, rtol=1e-4, atol=1e-4)


def test_a_mask_is_no_part_of_what_moves():
    """Of a dictionary of ids and masks the numbers are those of the sequences without their padding."""
    model = built(Tokens)
    alone = covariance_scalars(model, IDS, num_probes=None, output="pooled")
    padded = {
        "input_ids": torch.cat([IDS, IDS.flip(0)], 2),
        "attention_mask": torch.cat([torch.ones_like(IDS), torch.zeros_like(IDS)], 2),
    }
    found = covariance_scalars(model, padded, num_probes=None, output="pooled")
    for name, scalars in alone.items():
        assert_close(found[name].trace, scalars.trace)


def test_what_a_pattern_chooses_and_nothing_reaches_is_left_out_alone():
    class Network(EmbedLayer):
        def __init__(self):
            super().__init__()
            self.out_proj, self.in_proj = nn.Linear(4, 3), nn.Linear(4, 4)

        def forward(self, x):
            return self.head(self.in_proj(self.embed(x)))

    model, x = built(Network), VIEWS.flatten(0, 1)
    found = rehearse(model, x, "*_proj")
    assert list(found.places) == ["in_proj"]
    assert list(found.left_out) == ["out_proj"]
    assert "is not reached" in found.left_out["out_proj"]
    with pytest.raises(
        ValueError, match=r"'out_proj' is not reached by the forward pass, .*; leave it out of `layers`"
    ):
        rehearse(model, x, ["in_proj", "out_proj"])
