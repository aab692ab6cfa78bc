"""Layers with a forward of their own: the numbers are right, or the layer is left out with a reason."""

import pytest
import torch
import torch.nn.functional as F
from helpers.one_look import Kind, check_kind
from helpers.small_networks import draw_views
from torch import nn

COMPUTED = "does not enter a linear map, a convolution or a normalisation as it is"


class NormAct(nn.BatchNorm2d):
    """timm's BatchNormAct2d: normalises by functions of its own, then activates in place."""

    def forward(self, x):
        x = F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            0.1,
            self.eps,
        )
        return F.relu_(x)


class StandardisedConv(nn.Conv2d):
    """A convolution with a weight-standardised weight."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class SameConv(nn.Conv2d):
    """A convolution that pads by itself, as much as its stride asks for."""

    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 1, 1, 1)), self.weight, self.bias, self.stride, 0)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over channels, (N, C, H, W) permuted there and back."""

    def forward(self, x):
        return F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias).permute(
            0, 3, 1, 2
        )


class HandNorm(nn.LayerNorm):
    """A normalisation of plain arithmetic."""

    def forward(self, x):
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class ScaledLinear(nn.Linear):
    """The output is scaled, not the weight: a linear map with what comes back scaled."""

    def forward(self, x):
        return 3 * super().forward(x)


class EqualisedLinear(nn.Linear):
    """The weight is scaled: a map of a computed weight."""

    def forward(self, x):
        return F.linear(x, 3 * self.weight, self.bias)


class NormalisedLinear(nn.Linear):
    """Cosine similarity to prototypes."""

    def forward(self, x):
        return F.linear(F.normalize(x), F.normalize(self.weight))


class PenalisedLinear(nn.Linear):
    """A linear map whose weight is used for something else too."""

    def forward(self, x):
        return super().forward(x) + self.weight.square().sum()


class Mapped(nn.Linear):
    """The same map without `F.linear`: by `@`, with the weight transposed in storage, as transformers' Conv1D has it."""

    def __init__(self, fan_in, fan_out):
        super().__init__(fan_in, fan_out)
        self.weight = nn.Parameter(self.weight.detach().T.contiguous())

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


class Images(nn.Module):
    """A layer between a convolution and a head."""

    def __init__(self, layer):
        super().__init__()
        self.stem, self.layer, self.head = nn.Conv2d(2, 3, 3, padding=1), layer, nn.LazyLinear(3)
        self.eval()
        self(torch.zeros(1, 2, 4, 4))
        self.train()

    def forward(self, x):
        return self.head(self.layer(self.stem(x)).flatten(1))


class Vectors(nn.Module):
    """A layer between two linear ones."""

    def __init__(self, layer):
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(5, 4), layer, nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.layer(self.stem(x).tanh()).tanh())


class Attention(nn.Module):
    """nn.MultiheadAttention on tokens that attend to themselves, or to others of another width."""

    def __init__(self, *, is_crossed=False, need_weights=False, is_batch_first=True, **options):
        super().__init__()
        self.is_crossed, self.need_weights, self.is_batch_first = is_crossed, need_weights, is_batch_first
        self.keys, self.values = nn.Linear(4, options.get("kdim", 4)), nn.Linear(4, options.get("vdim", 4))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=is_batch_first, **options)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        query = x if self.is_batch_first else x.transpose(0, 1)
        key, value = (self.keys(query), self.values(query)) if self.is_crossed else (query, query)
        found, _ = self.attention(query, key, value, need_weights=self.need_weights)
        return self.head(found.mean(1 if self.is_batch_first else 0))


class Encoder(nn.Module):
    """torch's encoder, whose layers have a fast path of their own in evaluation mode."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=6, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


class Recurrent(nn.Module):
    """A GRU or LSTM before a head."""

    def __init__(self, kind):
        super().__init__()
        self.recurrent, self.head = kind(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


IMAGES = draw_views((2, 4, 4), num_samples=4)
VECTORS = draw_views((5,), num_samples=4)
TOKENS = draw_views((5, 4), num_samples=4)
ROWS = {
    f"attention.{part}_proj": ("attention.in_proj_weight", slice(4 * i, 4 * i + 4))
    for i, part in enumerate("qkv")
}
APART = {f"attention.{part}_proj": (f"attention.{part}_proj_weight", slice(None)) for part in "qkv"}
PARTS = tuple(f"attention.{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj"))


def images(build, covered=(), left_out={}):  # noqa: B006
    return Kind(lambda: Images(build()), IMAGES, ("stem", "head", *covered), left_out)


def vectors(build, covered=(), left_out={}):  # noqa: B006
    return Kind(lambda: Vectors(build()), VECTORS, ("stem", "head", *covered), left_out)


def attention(weights=ROWS, **options):
    added = ("bias_k", "bias_v") if options.get("add_bias_kv") else ()
    left_out = {f"attention.{name}": COMPUTED for name in added}
    others = ("keys", "values") if options.get("is_crossed") else ()
    return Kind(lambda: Attention(**options), TOKENS, (*PARTS, "head", *others), left_out, weights=weights)


def encoder():
    weights, covered = {}, ["head"]
    for number in range(2):
        path = f"encoder.layers.{number}"
        for i, part in enumerate("qkv"):
            weights[f"{path}.self_attn.{part}_proj"] = (
                f"{path}.self_attn.in_proj_weight",
                slice(4 * i, 4 * i + 4),
            )
        covered += [f"{path}.{name}" for name in ("self_attn.out_proj", "linear1", "linear2")]
    return Kind(Encoder, TOKENS, (*covered, *weights), weights=weights)


def recurrent(kind):
    names = [f"recurrent.{name}" for name in ("weight_ih_l0", "weight_hh_l0")]
    return Kind(lambda: Recurrent(kind), TOKENS, ("head",), dict.fromkeys(names, COMPUTED))


LAYERS = [
    pytest.param(images(lambda: NormAct(3)), id="norm-that-activates"),
    pytest.param(images(lambda: StandardisedConv(3, 3, 3), left_out={"layer": COMPUTED}), id="standardised-conv"),
    pytest.param(images(lambda: SameConv(3, 3, 3, 2), ["layer"]), id="same-padded-conv"),
    pytest.param(images(lambda: LayerNorm2d(3)), id="layer-norm-2d"),
    pytest.param(vectors(lambda: HandNorm(4)), id="hand-made-norm"),
    pytest.param(vectors(lambda: ScaledLinear(4, 4), ["layer"]), id="scaled-linear"),
    pytest.param(vectors(lambda: EqualisedLinear(4, 4), left_out={"layer": COMPUTED}), id="equalised-linear"),
    pytest.param(vectors(lambda: NormalisedLinear(4, 4), left_out={"layer": COMPUTED}), id="normalised-linear"),
    pytest.param(
        vectors(lambda: PenalisedLinear(4, 4), left_out={"layer": "has a gradient that is not what it saw"}),
        id="weight-used-for-more",
    ),
    pytest.param(vectors(lambda: Mapped(4, 4), ["layer"]), id="linear-by-another-function"),
    pytest.param(attention(), id="attention"),
    pytest.param(attention(need_weights=True), id="attention-with-weights"),
    pytest.param(attention(is_batch_first=False), id="attention-time-first"),
    pytest.param(attention(is_crossed=True), id="attention-crossed"),
    pytest.param(attention(APART, is_crossed=True, kdim=3, vdim=2), id="attention-other-widths"),
    pytest.param(attention(APART, is_crossed=True, kdim=3, vdim=2, is_batch_first=False), id="attention-other-widths-time-first"),
    pytest.param(attention(bias=False), id="attention-without-bias"),
    pytest.param(attention(add_bias_kv=True, add_zero_attn=True), id="attention-with-bias-k"),
    pytest.param(encoder(), id="encoder-with-a-fast-path"),
    pytest.param(recurrent(nn.GRU), id="gru"),
    pytest.param(recurrent(nn.LSTM), id="lstm"),
]  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
def test_a_look(kind):
    check_kind(kind)
