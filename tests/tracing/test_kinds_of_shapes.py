"""Samples and features along any axis: found by trying, so that numbers and features are those of single samples."""

import pytest
import torch
from helpers.one_look import Kind, check_kind
from helpers.small_networks import draw_views
from torch import nn


class Windows(nn.Module):
    """Swin: the tokens of an image in windows, folded into rows, (N k, T, D), and back."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Linear(4, 6), nn.LayerNorm(6)
        self.attention, self.head = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)
        self.mix = nn.Linear(6, 6)

    def forward(self, x):
        windows = self.norm(self.stem(x)).unflatten(1, (3, 2)).flatten(0, 1)
        windows = self.mix(windows + self.attention(windows, windows, windows)[0]).tanh()
        return self.head(windows.unflatten(0, (-1, 3)).flatten(1, 2).mean(1))


class WindowsFirst(Windows):
    """The same with windows before samples, (k N, T, D): rows that no block of a sample holds."""

    def forward(self, x):
        windows = self.stem(x).unflatten(1, (3, 2)).transpose(0, 1).flatten(0, 1)
        windows = self.mix(windows).tanh()
        return self.head(windows.unflatten(0, (3, -1)).mean((0, 2)))


class TimeFirst(nn.Module):
    """torch's transformer default, (T, N, D)."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.layer = nn.TransformerEncoderLayer(6, 2, dim_feedforward=5, dropout=0.5)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.layer(self.stem(x.transpose(0, 1))).mean(0))


class Positions(nn.Module):
    """A layer of positions, (T, D), whose rows are no samples, as a bias of attention or added to tokens."""

    def __init__(self, num_tokens):
        super().__init__()
        self.register_buffer("times", torch.linspace(0, 1, num_tokens)[:, None])
        self.position, self.stem, self.head = nn.Linear(1, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head((self.stem(x) + self.position(self.times)).tanh().mean(1))


class Frames(nn.Module):
    """A video: frames are folded into rows for a convolution and BatchNorm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 3)

    def forward(self, x):
        frames = self.norm(self.conv(x.flatten(0, 1))).relu()
        return self.head(frames.unflatten(0, x.shape[:2]).mean((1, 3, 4)))


class Heads(nn.Module):
    """A linear map of each head, (N, T, H, D), and one whose rows are tokens, (N T, D)."""

    def __init__(self):
        super().__init__()
        self.stem, self.of_heads, self.of_rows = nn.Linear(4, 6), nn.Linear(3, 3), nn.Linear(6, 3)

    def forward(self, x):
        heads = self.of_heads(self.stem(x).unflatten(2, (2, 3))).tanh()
        return self.of_rows(heads.flatten(0, 1).flatten(1)).unflatten(0, (len(x), -1)).mean(1)


class Sequences(nn.Module):
    """Conv1d, (N, C, L), with as many channels as positions."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 5, 3, padding=1), nn.GroupNorm(1, 5)
        self.act, self.head = nn.GELU(), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.act(self.norm(self.conv(x))).mean(2))


class ChannelsLast(nn.Module):
    """(N, H, W, C), as Swin and MLPs on images have it."""

    def __init__(self):
        super().__init__()
        self.stem, self.mix, self.act, self.head = (
            nn.Conv2d(2, 4, 1),
            nn.Linear(4, 4),
            nn.Tanh(),
            nn.Linear(4, 3),
        )
        self.merge = nn.Linear(4 * 4, 4)

    def forward(self, x):
        x = self.act(self.mix(self.stem(x).permute(0, 2, 3, 1)))
        x = self.merge(x.unflatten(2, (2, 2)).unflatten(1, (2, 2)).transpose(2, 3).flatten(3))
        return self.head(x.mean((1, 2)))


class Mixer(nn.Module):
    """A map over tokens, (N, D, T), beside one over features."""

    def __init__(self):
        super().__init__()
        self.tokens, self.features, self.head = nn.Linear(5, 6), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        x = self.tokens(x.mT).tanh().mT
        return self.head(self.features(x).mean(1))


def mean(*dims):
    return lambda value: value.mean(dims)


def windows(value):
    return value.unflatten(0, (-1, 3)).mean((1, 2))


TOKENS, SQUARE = draw_views((6, 4), num_samples=4), draw_views((4, 5), num_samples=4)
IMAGES = draw_views((2, 4, 4), num_samples=4)
ATTENTION = {
    f"attention.{part}_proj": ("attention.in_proj_weight", slice(6 * i, 6 * i + 6))
    for i, part in enumerate("qkv")
}
SELF_ATTENTION = {
    f"layer.self_attn.{part}_proj": ("layer.self_attn.in_proj_weight", slice(6 * i, 6 * i + 6))
    for i, part in enumerate("qkv")
}
TIME_FIRST = ("stem", *SELF_ATTENTION, "layer.self_attn.out_proj", "layer.linear1", "layer.linear2", "head")
NO_SAMPLES = "has rows that are not samples"


def time_first(num_tokens):
    return Kind(
        TimeFirst,
        draw_views((num_tokens, 4), num_samples=4),
        TIME_FIRST,
        features={"stem": mean(0), "layer": mean(0), "head": lambda value: value},
        weights=SELF_ATTENTION,
    )


def positions(num_tokens):
    views = draw_views((num_tokens, 4), num_samples=4)
    return Kind(lambda: Positions(num_tokens), views, ("stem", "head"), {"position": NO_SAMPLES})


SHAPES = [
    pytest.param(
        Kind(
            Windows,
            TOKENS,
            ("stem", *ATTENTION, "attention.out_proj", "mix", "head"),
            features={"stem": mean(1), "norm": mean(1), "mix": windows, "head": lambda value: value},
            weights=ATTENTION,
        ),
        id="windows-in-rows",
    ),
    pytest.param(
        Kind(WindowsFirst, TOKENS, ("stem", "head"), {"mix": NO_SAMPLES}, is_trained=False), id="windows-before-samples"
    ),
    *(pytest.param(time_first(num), id=f"time-first-{num}") for num in (5, 3, 8, 6)),
    *(pytest.param(positions(num), id=f"positions-{num}") for num in (5, 3, 8, 6)),
    pytest.param(
        Kind(Frames, draw_views((3, 2, 4, 4), num_samples=4), ("conv", "head"), features={"norm": lambda v: v.unflatten(0, (-1, 3)).mean((1, 3, 4))}),
        id="frames-in-rows",
    ),
    pytest.param(
        Kind(Heads, TOKENS, ("stem", "of_heads", "of_rows"), features={"stem": mean(1), "of_rows": lambda v: v.unflatten(0, (-1, 6)).mean(1)}),
        id="heads-and-tokens-in-rows",
    ),
    pytest.param(
        Kind(Sequences, SQUARE, ("conv", "head"), features={"conv": mean(2), "norm": mean(2), "act": mean(2)}), id="conv1d"
    ),
    pytest.param(
        Kind(
            ChannelsLast,
            IMAGES,
            ("stem", "mix", "merge", "head"),
            features={"stem": mean(2, 3), "mix": mean(1, 2), "act": mean(1, 2), "merge": mean(1, 2)},
        ),
        id="channels-last",
    ),
    pytest.param(
        Kind(Mixer, SQUARE.mT.contiguous(), ("tokens", "features", "head"), features={"features": mean(1)}), id="mixer"
    ),
]  # fmt: skip


@pytest.mark.parametrize("kind", SHAPES)
def test_a_look(kind):
    check_kind(kind)
