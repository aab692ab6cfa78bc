import itertools
import math
from functools import cache

import pytest
import torch
from torch.nn.functional import normalize

from lightning_ssl_theory.metrics import augmentation_concentration, augmented_distances, generalization_bound


def oracle(features, labels, sigma, delta, epsilon, lipschitz) -> dict[str, float]:
    rows = features.double().tolist()
    radius, classes = math.hypot(*rows[0][0]), sorted(set(labels.tolist()))
    far = [max(math.dist(a, b) for a in sample for b in sample) > epsilon for sample in rows]
    r_epsilon = sum(far) / len(far)
    centres, shares = [], []
    for one in classes:
        views = [
            view
            for sample, label in zip(rows, labels.tolist(), strict=True)
            if label == one
            for view in sample
        ]
        centres.append([sum(column) / len(views) for column in zip(*views, strict=True)])
        shares.append(len(views) / features.shape[1] / len(rows))
    products = [
        sum(a * b for a, b in zip(one, other, strict=True))
        for one, other in itertools.combinations(centres, 2)
    ]
    rho = (
        2 * (1 - sigma)
        + r_epsilon / min(shares)
        + sigma * (lipschitz * delta / radius + 2 * epsilon / radius)
    )
    delta_mu = 1 - min(math.hypot(*centre) ** 2 for centre in centres) / radius**2
    threshold = 1 - rho - math.sqrt(2 * rho) - delta_mu / 2
    wrong = [
        min(classes, key=lambda k: math.dist(sample[0], centres[k])) != label
        for sample, label in zip(rows, labels.tolist(), strict=True)
    ]
    holds = max(products) / radius**2 < threshold
    return {
        "r_epsilon": r_epsilon,
        "rho_max": rho,
        "delta_mu": delta_mu,
        "divergence": max(products) / radius**2,
        "threshold": threshold,
        "holds": holds,
        "bound": 1 - sigma + r_epsilon if holds else math.nan,
        "error": sum(wrong) / len(wrong),
    }


def embeddings(seed: int, spread: float, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples of well separated classes, of which some are noisy and some belong elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    count, num_views, width = 30, 3, num_classes + 1
    labels = torch.arange(count) % num_classes
    centres = torch.eye(num_classes, width, dtype=torch.float64) - 1 / num_classes
    shown = torch.where(torch.rand(count, generator=generator) < 0.03, labels.roll(1), labels)
    noise = torch.randn(count, num_views, width, generator=generator, dtype=torch.float64)
    sizes = torch.rand(count, 1, 1, generator=generator, dtype=torch.float64) ** 4
    return normalize(centres[shown][:, None] + spread * sizes * noise, dim=2), labels


def test_equals_the_formulas_for_grids() -> None:
    features, labels = embeddings(0, 0.3, 3)
    sigmas, deltas, epsilons = (
        torch.tensor([[0.9], [1.0]]),
        torch.tensor([[0.01], [0.02]]),
        torch.tensor([0.01, 0.2]),
    )
    found = generalization_bound(
        5 * features, labels, sigma=sigmas, delta=deltas, epsilon=epsilons, lipschitz=2.0
    )
    for i, j in itertools.product(range(2), range(2)):
        expected = oracle(
            5 * features, labels, sigmas[i, 0].item(), deltas[i, 0].item(), epsilons[j].item(), 2.0
        )
        for name, value in expected.items():
            values = getattr(found, name)
            got = values.expand(2, 2)[i, j] if name != "r_epsilon" else values[j]
            assert got.item() == pytest.approx(value, nan_ok=True), name


@cache
def populations():
    """For 1000 random populations what the bound is made of, on a grid of delta and epsilon."""
    found = []
    for seed in range(1000):
        features, labels = embeddings(seed, (0.003, 0.02, 0.1, 0.5)[seed % 4], 2 + seed // 4 % 3)
        # the identity as encoder: samples are their features, and L = 1
        deltas, epsilons = torch.tensor([[0.0], [0.05], [0.3], [2.0]]), torch.tensor([0.003, 0.01, 0.03, 0.3])
        distances = augmented_distances(features, labels)
        sigma = augmentation_concentration(distances, labels, deltas.flatten()).sigma_lower[:, None]
        given = {"sigma": sigma, "delta": deltas, "epsilon": epsilons, "lipschitz": 1.0}
        found.append((sigma, generalization_bound(features, labels, **given)))
    return found


def cells(scale: float) -> list[tuple[float, float]]:
    """Errors and bounds wherever the condition holds with a rho_max that is scaled."""
    found = []
    for sigma, got in populations():
        rho = got.rho_max * scale
        holds = got.divergence < 1 - rho - (2 * rho).sqrt() - got.delta_mu / 2
        found += [(got.error.item(), bound) for bound in (1 - sigma + got.r_epsilon)[holds].tolist()]
    return found


def test_the_error_is_below_its_bound_wherever_the_condition_holds() -> None:
    held = [(got.error.item(), bound) for _, got in populations() for bound in got.bound[got.holds].tolist()]
    assert held == cells(scale=1.0)
    assert len(held) > 300
    assert sum(error > 0 for error, _ in held) > 30  # else any bound would do
    assert not [cell for cell in held if cell[0] > cell[1] + 1e-12]


def test_a_broken_bound_is_caught() -> None:
    assert [cell for cell in cells(scale=0.1) if cell[0] > cell[1] + 1e-12]


def test_says_nothing_beyond_the_largest_rho() -> None:
    poles = torch.tensor([[1.0], [-1.0]])[torch.arange(4) % 2][:, None].repeat(1, 2, 1)
    for rho, can_hold in ((0.763, True), (0.765, False)):  # products of centres are never below -1
        found = generalization_bound(poles, LABELS, sigma=1.0, delta=rho, epsilon=0.0, lipschitz=1.0)
        assert (found.rho_max.item(), found.holds.item()) == (pytest.approx(rho), can_hold)
        assert found.bound.isnan().item() is not can_hold


UNIT = torch.eye(2)[torch.arange(4) % 2][:, None].repeat(1, 2, 1)
LABELS = torch.arange(4) % 2
GOOD = {"sigma": 1.0, "delta": 0.0, "epsilon": 0.0, "lipschitz": 1.0}


@pytest.mark.parametrize(
    ("features", "labels", "changed", "message"),
    [
        (UNIT[:, :1], LABELS, {}, "Expected `features` of at least two views, got one"),
        (UNIT[:, 0], LABELS, {}, "Expected `features` of shape"),
        (
            UNIT * torch.arange(1, 5)[:, None, None],
            LABELS,
            {},
            r"Expected `features` of one norm, got 1 to 4; normalize",
        ),
        (UNIT * 0, LABELS, {}, "Expected `features` of one norm, got 0 to 0"),
        (UNIT * math.nan, LABELS, {}, "Expected finite `features`"),
        (UNIT, LABELS * 0, {}, "Expected samples of at least two classes, got only class 0"),
        (UNIT, LABELS * 2, {}, "Expected samples of every class in 0..2, found none of class 1"),
        (UNIT, LABELS - 1, {}, "Expected `labels` in 0"),
        (UNIT, LABELS[:3], {}, "Expected `labels` of shape"),
        (UNIT, LABELS, {"epsilon": -0.1}, r"Expected `epsilon` of at least 0, got \[-0.1\]"),
        (UNIT, LABELS, {"delta": torch.tensor([0.0, -1.0])}, "Expected `delta` of at least 0"),
        (UNIT, LABELS, {"sigma": 1.5}, r"Expected `sigma` in \[0, 1\], got \[1.5\]"),
        (UNIT, LABELS, {"lipschitz": math.nan}, "Expected a finite `lipschitz`, got nan"),
    ],
)
def test_rejects_bad_input(features, labels, changed, message) -> None:
    with pytest.raises(ValueError, match=message):
        generalization_bound(features, labels, **GOOD | changed)
