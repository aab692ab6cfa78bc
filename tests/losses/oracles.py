"""The losses written as loops over single numbers, from their formulas; in float64 and differentiable."""

from itertools import product

import pytest
import torch
from torch import Tensor

from lightning_ssl_theory.losses import InfoNCELoss, PairwiseLoss, SimpleContrastiveLoss, SoftTripletLoss


def halved(a: Tensor, b: Tensor) -> Tensor:
    return sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / 2


def on_sphere(z: Tensor) -> Tensor:
    return torch.stack([row / sum(v * v for v in row) ** 0.5 for row in z])


def mean(values: list[Tensor]) -> Tensor:
    return sum(values) / len(values)


def simple_loop(loss: SimpleContrastiveLoss, views: list[Tensor]) -> Tensor:
    samples = range(len(views[0]))
    near = mean(
        [halved(views[a][i], views[b][i]) for i in samples for a, b in product((0, 1), repeat=2) if a != b]
    )
    far = mean(
        [
            halved(views[a][i], views[b][j])
            for i, j in product(samples, repeat=2)
            for a, b in product((0, 1), repeat=2)
            if i != j
        ]
    )
    return near - far


def triplet_loop(loss: SoftTripletLoss, views: list[Tensor]) -> Tensor:
    samples, tau = range(len(views[0])), loss.temperature
    hinges = []
    for i, j, a, b in product(samples, samples, (0, 1), (0, 1)):
        if i != j:
            excess = halved(views[a][i], views[1 - a][i]) - halved(views[a][i], views[b][j]) + loss.margin
            hinges.append(tau * torch.log(1 + torch.exp(excess / tau)))
    return mean(hinges)


def info_nce_loop(loss: InfoNCELoss, views: list[Tensor]) -> Tensor:
    num_samples, tau = len(views[0]), loss.temperature
    entropies = []
    for i, a in product(range(num_samples), (0, 1) if loss.symmetric else (0,)):
        anchor = views[a][i]
        if loss.num_negatives == 1:
            negatives = [views[1 - a][(i + 1) % num_samples]]
        else:
            used = (0, 1) if loss.symmetric else (1,)
            negatives = [views[b][j] for j in range(num_samples) for b in used if j != i]
        positive = torch.exp(-halved(anchor, views[1 - a][i]) / tau)
        others = sum(torch.exp(-halved(anchor, negative) / tau) for negative in negatives)
        entropies.append(-torch.log(positive / (positive + others)))
    return mean(entropies) * (tau if loss.distance == "squared" else 1.0)


def loss_loop(loss: PairwiseLoss, z1: Tensor, z2: Tensor) -> Tensor:
    """The value that `loss(z1, z2)` should have."""
    views = [on_sphere(z1), on_sphere(z2)] if loss.distance == "cosine" else [z1, z2]
    loops = {SimpleContrastiveLoss: simple_loop, SoftTripletLoss: triplet_loop, InfoNCELoss: info_nce_loop}
    pull = mean([halved(a, b) for a, b in zip(*views, strict=True)])
    return loops[type(loss)](loss, views) + loss.beta * pull


LOSSES = [
    pytest.param(SimpleContrastiveLoss(), id="simple"),
    pytest.param(SimpleContrastiveLoss(distance="cosine", beta=0.5), id="simple-cosine-beta"),
    pytest.param(SoftTripletLoss(0.3, 0.4), id="triplet"),
    pytest.param(SoftTripletLoss(0.3, 0.4, distance="cosine", beta=-0.5), id="triplet-cosine-beta"),
    pytest.param(InfoNCELoss(0.4), id="nt-xent"),
    pytest.param(InfoNCELoss(0.4, beta=0.7), id="nt-xent-beta"),
    pytest.param(InfoNCELoss(0.4, distance="squared"), id="nce-squared"),
    pytest.param(InfoNCELoss(0.4, symmetric=False), id="nce-one-way"),
    pytest.param(
        InfoNCELoss(0.4, distance="squared", symmetric=False, beta=0.7), id="nce-squared-one-way-beta"
    ),
    pytest.param(InfoNCELoss(0.4, num_negatives=1), id="nce-one-negative"),
    pytest.param(
        InfoNCELoss(0.4, num_negatives=1, symmetric=False, distance="squared"),
        id="nce-squared-one-way-one-negative",
    ),
]
