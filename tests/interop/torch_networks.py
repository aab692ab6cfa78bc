"""Networks of torch's own parts, each with one habit that a look has to survive."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from .architecture import NUM_SAMPLES, Architecture, images, sequences

ENCODER_LAYER = partial(nn.TransformerEncoderLayer, 8, 2, dim_feedforward=12, dropout=0.1)


class Encoder(nn.Module):
    """torch's TransformerEncoder on sequences (N, T, D), averaged over time."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        layer = ENCODER_LAYER(batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.batch_first:
            return self.head(self.encoder(inputs.transpose(0, 1)).mean(0))
        return self.head(self.encoder(inputs).mean(1))


class TimeFirst(nn.Module):
    """Linear layers on (T, N, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs.transpose(0, 1)).tanh().mean(0))


class CrossAttention(nn.Module):
    """A learnt query attends to the sequence; keys and values have widths of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 12)
        self.attention = nn.MultiheadAttention(8, 2, kdim=12, vdim=12, batch_first=True)
        self.query, self.head = nn.Parameter(torch.randn(1, 2, 8)), nn.Linear(16, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        keys = self.stem(inputs).relu()
        found, _ = self.attention(self.query.expand(len(inputs), -1, -1), keys, keys)
        return self.head(found.flatten(1))


class Recurrent(nn.Module):
    """The last state of an LSTM or GRU."""

    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.stem, self.cell, self.head = nn.Linear(8, 16), cell(16, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.cell(self.stem(inputs).relu())
        return self.head(states[:, -1])


class ChannelsLast(nn.Module):
    """Images (N, H, W, C) through Linear and LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        rows = self.stem(inputs).permute(0, 2, 3, 1)
        return self.head((rows + self.mlp(rows)).mean((1, 2)))


class Checkpointed(nn.Module):
    """Activations computed again in the backward pass, through BatchNorm and dropout."""

    def __init__(self, *, use_reentrant: bool) -> None:
        super().__init__()
        self.use_reentrant = use_reentrant
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        found = checkpoint(self.body, self.stem(inputs), use_reentrant=self.use_reentrant)
        return self.head(found.mean((2, 3)))


class MovingAverage(nn.Module):
    """The forward pass moves a key encoder, and the query encoder learns to agree with it."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(8, 6), nn.Linear(8, 6).requires_grad_(False)
        self.head = nn.Linear(12, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            for slow, fast in zip(self.key.parameters(), self.query.parameters(), strict=True):
                slow.lerp_(fast, 0.1)
        return self.head(torch.cat([self.query(inputs), self.key(inputs)], 1).tanh())


class Words(nn.Module):
    """Token ids through an embedding that rescales itself in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 8, max_norm=1.0)
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.body(self.embedding(ids)).tanh().mean(1))


class Bytes(nn.Module):
    """Images of bytes, scaled by the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dtype == torch.uint8:
            inputs = inputs.to(self.head.weight.dtype) / 255
        return self.head(self.body(inputs).mean((2, 3)))


class Tied(nn.Module):
    """One weight in two layers, another under two names, and a layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
        self.net[2].weight = self.net[0].weight
        self.head = self.net[4]
        self.stem, self.twice = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(self.twice(self.twice(self.stem(inputs)).tanh()))


class Named(nn.Module):
    """A dictionary with the embedding and what else there is."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.unused = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        embedding = self.body(inputs)
        return {"embedding": embedding, "logits": self.unused(embedding.detach())}


class Pair(nn.Module):
    """A tuple: per-step features and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        steps = self.body(inputs)
        return steps, steps.mean(1)


class Folded(nn.Module):
    """Frames of a clip as rows of a convolution, joined at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.head = nn.Linear(8, 4)

    def forward(self, clips: Tensor) -> Tensor:
        found = self.frames(clips.flatten(0, 1)).mean((2, 3))
        return self.head(found.unflatten(0, clips.shape[:2]).mean(1))


class Positions(nn.Module):
    """A Linear on positions, which have no samples."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.positions: Tensor
        self.register_buffer("positions", torch.linspace(-1, 1, length)[:, None])
        self.place, self.body, self.head = nn.Linear(1, 8), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs + self.place(self.positions).tanh()).tanh().mean(1))


class ScaledLinear(nn.Linear):
    """A Linear with a forward of its own."""

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, F.normalize(self.weight), self.bias) * 3


def conv_1d(**arguments: Any) -> nn.Module:
    """Three convolutions over time."""
    return nn.Sequential(
        nn.Conv1d(3, 8, 5, stride=2, **arguments),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Conv1d(8, 16, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


def normed(norm: Any) -> nn.Module:
    """Convolutions with a computed weight."""
    return nn.Sequential(
        norm(nn.Conv2d(3, 8, 3, stride=2)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 32),
        nn.ReLU(),
        nn.Linear(32, 4),
    )


def zero_head() -> nn.Module:
    """The head begins at zero, so that nothing drives the layers before it."""
    head = nn.Linear(16, 4)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), head)


def lazy() -> nn.Module:
    """Sizes known at the first batch."""
    return nn.Sequential(nn.LazyConv2d(8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


def autoencoder() -> nn.Module:
    """Convolutions there and back, and their transposes."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def volumes(generator: Generator) -> Tensor:
    """Clips (N, frames, 3, 12, 12)."""
    return torch.randn(NUM_SAMPLES, 4, 3, 12, 12, generator=generator)


def clips_alone(batch: Any) -> Any:
    """Clips of a clean loader as the one view that they are; (N, frames, 3, H, W) stands for stacked views."""
    inputs, *others = batch
    return ([inputs], *others) if isinstance(inputs, Tensor) else batch


def ids(generator: Generator) -> Tensor:
    """Token ids (N, 7)."""
    return torch.randint(30, (NUM_SAMPLES, 7), generator=generator)


def raw_bytes(generator: Generator) -> Tensor:
    """Images of bytes."""
    return torch.randint(256, (NUM_SAMPLES, 3, 12, 12), generator=generator, dtype=torch.uint8)


STEPS, SMALL = sequences(5, 8), images(12)


def vectors(generator: Generator) -> Tensor:
    """(N, 8)."""
    return sequences(1, 8)(generator).squeeze(1)


def row(name: str, build: Any, inputs: Any, special: str, **fields: Any) -> Architecture:
    """A row of the table; all are small enough for CI."""
    return Architecture(f"torch-{name}", build, inputs, special, **({"in_ci": True} | fields))


TORCH = [
    row("encoder", partial(Encoder, batch_first=True), STEPS, "TransformerEncoder's fast path"),
    row("encoder-time-first", partial(Encoder, batch_first=False), STEPS, "TransformerEncoder on (T, N, D)"),
    row("time-first", TimeFirst, STEPS, "T rows that are not samples"),
    row("time-first-as-many", TimeFirst, sequences(NUM_SAMPLES, 8), "as many time steps as samples"),
    row(
        "cross-attention", CrossAttention, STEPS, "three weights of one nn.MultiheadAttention, a learnt query"
    ),
    row("lstm", partial(Recurrent, nn.LSTM), STEPS, "gates left out", least_share=0.1),
    row("gru", partial(Recurrent, nn.GRU), STEPS, "gates left out", least_share=0.1),
    row("conv1d", conv_1d, lambda g: sequences(3, 20)(g), "(N, C, L)"),
    row("channels-last", ChannelsLast, SMALL, "(N, H, W, C)"),
    row("folded-frames", Folded, volumes, "frames as rows", read_batch=clips_alone),
    row("positions", partial(Positions, 5), STEPS, "rows without samples"),
    row("checkpoint", partial(Checkpointed, use_reentrant=False), SMALL, "recomputed activations"),
    row("checkpoint-reentrant", partial(Checkpointed, use_reentrant=True), SMALL, "recomputed, the old way"),
    row("moving-average", MovingAverage, vectors, "the forward pass writes to parameters"),
    row("max-norm", Words, ids, "the forward pass writes to its embedding", least_share=0.4),
    row("bytes", Bytes, raw_bytes, "the forward pass asks for the inputs' type"),
    row("tied", Tied, vectors, "weights shared in three ways", least_share=0.3),
    row("dictionary", Named, vectors, "a dictionary comes out", output="embedding"),
    row("tuple", Pair, STEPS, "a tuple comes out", output=1),
    row(
        "scaled-linear",
        lambda: nn.Sequential(ScaledLinear(8, 8), nn.Tanh(), nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)),
        vectors,
        "a Linear with a forward of its own",
    ),
    row("weight-norm", partial(normed, parametrizations.weight_norm), SMALL, "a parametrised weight"),
    row("old-weight-norm", partial(normed, nn.utils.weight_norm), SMALL, "a weight set by a hook"),
    row(
        "spectral-norm",
        partial(normed, parametrizations.spectral_norm),
        SMALL,
        "a weight with buffers of its own",
    ),
    row("zero-head", zero_head, vectors, "outputs and a weight of zero", keeps_zeros=True),
    row("lazy", lazy, SMALL, "sizes known, and weights drawn, at the first batch", is_random=True),
    row("autoencoder", autoencoder, SMALL, "a transposed convolution", least_share=0.4),
]
