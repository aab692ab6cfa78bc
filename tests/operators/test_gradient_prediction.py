"""Theory's prediction of a loss's gradient, where it is exact and how it leaves exactness."""

import pytest
import torch
from helpers.ddp import run_ranks
from torch import nn

from lightning_ssl_theory.distributed import all_sum
from lightning_ssl_theory.losses import InfoNCELoss, SimpleContrastiveLoss, SoftTripletLoss
from lightning_ssl_theory.operators import gradient_prediction, trace_network

F64 = torch.float64


def mlp():
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.outer, self.head = (
            nn.Linear(5, 6),
            nn.Linear(6, 4),
            nn.Linear(4, 6),
            nn.Linear(6, 3),
        )

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head(x + self.outer(self.inner(x).relu()))


def normalised():
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 5)),
        nn.Conv1d(1, 4, 2),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


BUILDS = [mlp, Residual, normalised, convolutional]


def network(build):
    torch.manual_seed(1)
    return build().double()


def draw_views(num_samples=6, num_views=2, strength=0.5, seed=2):
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(num_samples, 1, 5, dtype=F64, generator=generator)
    return base + strength * torch.randn(num_samples, num_views, 5, dtype=F64, generator=generator)


def quality(build, views, loss):
    trace = trace_network(network(build), views.flatten(0, 1))
    return gradient_prediction(trace, loss, num_views=views.shape[1])


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.parametrize("distance", ["squared", "cosine"])
@pytest.mark.parametrize("num_views", [2, 3])
def test_exact_on_every_batch_for_the_simple_loss(build, beta, distance, num_views):
    """-2 U w on every batch; biases, skips, held BatchNorm: f stands where K^T w would."""
    found = quality(
        build, draw_views(num_views=num_views), SimpleContrastiveLoss(beta=beta, distance=distance)
    )
    assert len(found) >= 2
    for values in found.values():
        assert values.residual < 1e-10
        assert values.cosine == pytest.approx(1.0, abs=1e-12)


LOSSES = [
    pytest.param(InfoNCELoss(temperature=0.5), id="nt-xent"),
    pytest.param(InfoNCELoss(temperature=0.7, distance="squared"), id="squared"),
    pytest.param(InfoNCELoss(temperature=0.5, symmetric=False), id="one-direction"),
    pytest.param(InfoNCELoss(temperature=0.9, distance="squared", num_negatives=1), id="one-negative"),
    pytest.param(SoftTripletLoss(temperature=0.5, margin=0.3), id="triplet"),
]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_exact_without_augmentation(build, loss):
    views = draw_views(num_views=1).expand(-1, 2, -1).contiguous()
    for values in quality(build, views, loss).values():
        assert values.residual < 1e-10
        assert values.cosine == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES[:2])
def test_residual_falls_with_the_square_of_the_augmentation(loss):
    """On average over augmentations: a single batch adds a fluctuation of first order with mean zero."""

    def mean_residual(strength):
        model = network(mlp)
        base = draw_views(num_samples=4, num_views=1, strength=0.0)
        differences, gradients = [], []
        for seed in range(40):
            noise = torch.randn(4, 2, 5, dtype=F64, generator=torch.Generator().manual_seed(seed))
            for sign in (1, -1):  # the fluctuation of first order cancels within the pair
                views = base + sign * strength * noise
                trace = trace_network(model, views.flatten(0, 1), ["0"])
                gradient, predicted = both_gradients(trace, loss)
                differences.append(gradient - predicted)
                gradients.append(gradient)
        return float(torch.stack(differences).mean(0).norm() / torch.stack(gradients).mean(0).norm())

    strong, weak = mean_residual(0.2), mean_residual(0.1)
    slope = torch.log2(torch.tensor(strong / weak))
    assert 1.6 < slope < 2.4


def both_gradients(trace, loss):
    """The loss's gradient and its prediction themselves, two views."""
    outputs = nn.functional.normalize(trace.outputs, dim=1) if loss.distance == "cosine" else trace.outputs
    weight = trace.layers["0"].weight
    views = trace.outputs.unflatten(0, (-1, 2))
    (gradient,) = torch.autograd.grad(loss(views[:, 0], views[:, 1]), weight, retain_graph=True)
    f = outputs.detach().unflatten(0, (-1, 2))
    num_samples, means = len(f), f.mean(1)
    r = (means[:, None] - means[None]).square().sum(-1) / 2
    xi = loss.pair_weight(r)
    cotangents = torch.zeros_like(f)
    for i in range(num_samples):
        for j in range(num_samples):
            if i != j:
                cotangents[i] -= xi[i, j] * means[j] / 2
                cotangents[i] += xi[i, j] * f[i].flip(0) / 2  # pairs of different views
    cotangents *= -2 / num_samples**2
    (predicted,) = torch.autograd.grad(outputs, weight, cotangents.flatten(0, 1), retain_graph=True)
    return gradient, predicted


def test_the_loops_agree_with_the_function():
    for loss in (
        InfoNCELoss(),
        InfoNCELoss(distance="squared"),
        SoftTripletLoss(temperature=0.5, margin=0.3),
    ):
        views = draw_views()
        trace = trace_network(network(mlp), views.flatten(0, 1), ["0"])
        gradient, predicted = both_gradients(trace, loss)
        found = gradient_prediction(trace, loss, num_views=2)["0"]
        cosine = torch.cosine_similarity(gradient.reshape(-1), predicted.reshape(-1), dim=0)
        assert found.residual == pytest.approx(
            float((gradient - predicted).norm() / gradient.norm()), rel=1e-9
        )
        assert found.cosine == pytest.approx(float(cosine), rel=1e-9)
        assert found.residual > 1e-3


def test_layers_that_nothing_depends_on_read_zero():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.side = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x):
            return self.used(x) + self.side(x).detach()

    found = quality(Detached, draw_views(), InfoNCELoss())["side"]
    assert tuple(map(float, found)) == (0.0, 0.0)


def on_rank(rank, world_size):
    views = draw_views(num_samples=7)
    own = views[:5] if rank == 0 else views[5:]
    results = {}
    for name, loss in (
        ("nce", InfoNCELoss()),
        ("triplet", SoftTripletLoss(beta=0.4)),
        ("simple", SimpleContrastiveLoss()),
    ):
        trace = trace_network(network(normalised), own.flatten(0, 1), all_sum=all_sum)
        results[name] = gradient_prediction(trace, loss, num_views=2)
    return results


@pytest.mark.ddp
def test_uneven_ranks_equal_the_whole():
    first, second = run_ranks(on_rank, 2)
    views = draw_views(num_samples=7)
    assert first == second
    for name, loss in (("nce", InfoNCELoss()), ("triplet", SoftTripletLoss(beta=0.4))):
        whole, alone = quality(normalised, views, loss), quality(normalised, views[:5], loss)
        for layer, values in whole.items():
            assert first[name][layer].residual == pytest.approx(float(values.residual), rel=1e-9)
            assert first[name][layer].cosine == pytest.approx(float(values.cosine), rel=1e-9)
            assert alone[layer].residual != pytest.approx(float(values.residual), rel=1e-2)
    assert all(values.residual < 1e-10 for values in first["simple"].values())
