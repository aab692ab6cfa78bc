"""Bounds on the divergence of classes: against loops, over random populations, and broken ones that are caught."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lightning_ssl_theory.metrics import DivergenceBounds, divergence_bounds

FOUR = ("info_nce", "cross_correlation", "spectral", "vicreg")
ROUNDING = 1e-7  # the root of what rounding leaves of a zero


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def mean(rows: list[list[float]]) -> list[float]:
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def loop(features: Tensor, labels: Tensor) -> dict[tuple[int, int], dict[str, float]]:
    """The bounds of every pair of classes, from their formulas."""
    radius = math.hypot(*features[0, 0].tolist())
    samples = [[[x / radius for x in view] for view in sample] for sample in features.tolist()]
    views = [view for sample in samples for view in sample]
    names, width = sorted(set(labels.tolist())), features.shape[2]
    members = {k: [s for s, label in zip(samples, labels.tolist(), strict=True) if label == k] for k in names}
    p = {k: len(members[k]) / len(samples) for k in names}
    mu = {k: mean([view for sample in members[k] for view in sample]) for k in names}
    centre = mean(views)
    a = {
        k: math.fsum(dot(u, v) for s in members[k] for u in s for v in s)
        / (len(members[k]) * features.shape[1] ** 2)
        for k in names
    }
    log_partition = math.fsum(
        math.log(math.exp(dot(f1, f2)) + math.exp(dot(f1, other)))
        for sample in samples
        for f1, f2 in itertools.product(sample, repeat=2)
        for other in views
    ) / (len(samples) * features.shape[1] ** 2 * len(views))

    def least(i: int, j: int) -> float:
        return p[i] * p[j] * math.log(math.exp(a[i]) + math.exp(0 if i == j else -1))

    def moment(pairs: list[tuple[list[float], list[float]]]) -> float:
        """Squared norm of a mean of outer products."""
        return math.fsum(
            (math.fsum(u[i] * v[j] for u, v in pairs) / len(pairs)) ** 2
            for i in range(width)
            for j in range(width)
        )

    def bound(squared_norm: float, centres: dict[int, list[float]], k: int, other: int) -> float:
        rest = squared_norm - math.fsum((p[i] * dot(centres[i], centres[i])) ** 2 for i in names)
        return math.sqrt(rest / (2 * p[k] * p[other]))

    std = [math.sqrt(math.fsum((v[i] - centre[i]) ** 2 for v in views) / len(views)) for i in range(width)]

    def centred(v: list[float]) -> list[float]:
        return [x - c for x, c in zip(v, centre, strict=True)]

    def standard(v: list[float]) -> list[float]:
        return [x / s for x, s in zip(centred(v), std, strict=True)]

    both = [(u, v) for sample in samples for u in sample for v in sample]
    found = {}
    for k, other in itertools.combinations(names, 2):
        rest = math.fsum(least(i, j) for i in names for j in names if {i, j} != {k, other})
        u = (log_partition - rest) / (2 * p[k] * p[other])
        shift = dot(mu[k], centre) + dot(mu[other], centre) - dot(centre, centre)
        covariance = moment([(centred(v), centred(v)) for v in views])
        own = moment([(standard(u), standard(v)) for u, v in both])
        found[k, other] = {
            "products": dot(mu[k], mu[other]),
            "info_nce": math.log(math.exp(u) - math.exp(min(a[k], a[other]))),
            "cross_correlation": bound(moment(both), mu, k, other),
            "spectral": bound(moment([(v, v) for v in views]), mu, k, other),
            "vicreg": bound(covariance, {i: centred(mu[i]) for i in names}, k, other) + shift,
            "standardized_products": dot(standard(mu[k]), standard(mu[other])),
            "barlow_twins": bound(own, {i: standard(mu[i]) for i in names}, k, other),
        }
    return found


def population(seed: int) -> tuple[Tensor, Tensor]:
    """Few classes or more, of unequal size: near their centres or spread over the sphere; one in five near a bound."""
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    if seed % 10 == 8:  # samples at right angles: InfoNCE's bound is tight
        labels, samples = torch.arange(40) % 2, torch.linalg.qr(torch.randn(40, 40, **draw)).Q
    elif seed % 10 == 9:  # two classes apart from thirty at one point: VICReg's is
        labels, samples = torch.arange(32), torch.randn(1, 3, **draw).repeat(32, 1)
        samples[:2] += 0.5 * torch.rand((), **draw)
    else:
        num_classes, count = 2 + seed % 4, 8 + 4 * (seed // 4 % 3)
        largest = 1 + seed % num_classes
        labels = torch.cat([torch.arange(num_classes), torch.arange(count - num_classes) % largest])
        centres = torch.randn(num_classes, (2, 5, 40)[seed // 12 % 3], **draw) * (0.0, 1.0, 10.0)[seed % 3]
        samples = centres[labels] + torch.randn(count, centres.shape[1], **draw)
    noise = torch.randn(len(samples), 3, samples.shape[1], **draw) * (0.0, 0.1, 3.0)[seed // 30 % 3]
    return normalize(samples[:, None] + noise, dim=2), labels


@pytest.mark.parametrize("seed", [0, 7, 13, 30])
def test_equals_loops_over_single_numbers(seed: int) -> None:
    features, labels = population(seed)
    features = 3.0 * normalize(features[..., :6], dim=2)
    expected = loop(features, labels)
    found = divergence_bounds(features, labels)
    assert [tuple(pair) for pair in found.pairs.classes.tolist()] == list(expected)
    for place, values in enumerate(expected.values()):
        for name, value in values.items():
            assert getattr(found.pairs, name)[place].item() == pytest.approx(value, rel=1e-7, abs=1e-7), name
    for name in FOUR:
        assert getattr(found, name) == getattr(found.pairs, name).max()
    assert found.vacuous.tolist() == [bool(getattr(found, name) >= 1) for name in FOUR]
    assert found.divergence == found.pairs.products.max()
    assert found.barlow_twins == found.pairs.barlow_twins.max()
    assert found.standardized_divergence == found.pairs.standardized_products.max()


def test_oracle_by_hand() -> None:
    # two classes on the axes, each one sample with equal views: C = I / 2, |C|^2 = 1/2 = sum of p^2
    found = loop(torch.eye(2)[:, None].repeat(1, 2, 1), torch.tensor([0, 1]))[0, 1]
    assert found["products"] == found["cross_correlation"] == found["spectral"] == 0.0
    # the mean (1/2, 1/2), deviations (+-1/2, -+1/2): covariance (1, -1; -1, 1) / 4, squared norm 1/4; centres' 1/2
    assert found["vicreg"] == pytest.approx(math.sqrt((1 / 4 - 1 / 8) * 2) + 0.5 + 0.5 - 0.5)
    # L = (log(e + e) + log(e + 1)) / 2, less log(e + 1) / 2 for the two classes by themselves
    assert found["info_nce"] == pytest.approx(math.log(2 * math.e - math.e))


# ------------------------------------------------------------------ no violation, and broken bounds are caught


@cache
def populations() -> list[tuple[Tensor, Tensor, DivergenceBounds]]:
    return [(*population(seed), divergence_bounds(*population(seed))) for seed in range(1000)]


def violations(bounds: Iterator[tuple[Tensor, Tensor]]) -> int:
    """Of all pairs of products and bounds, those where the product is larger."""
    return sum(int((product > bound + ROUNDING).sum()) for product, bound in bounds)


def named(name: str, products: str = "products") -> Iterator[tuple[Tensor, Tensor]]:
    return ((getattr(found.pairs, products), getattr(found.pairs, name)) for *_, found in populations())


@pytest.mark.parametrize("name", FOUR)
def test_no_product_of_two_centres_exceeds_its_bound(name: str) -> None:
    assert violations(named(name)) == 0
    near = [float((bound - product).min()) for product, bound in named(name)]
    assert sum(gap < 0.1 for gap in near) > 20  # else any bound would do


def test_barlow_twins_bounds_the_standardized_centres() -> None:
    assert violations(named("barlow_twins", "standardized_products")) == 0


def other_views(features: Tensor) -> Tensor:
    """E f1 f2^T over pairs of different views only."""
    num_views = features.shape[1]
    total, own = features.sum(1), features.flatten(0, 1)
    return (total.mT @ total - own.mT @ own) / (len(features) * num_views * (num_views - 1))


def all_views(features: Tensor) -> Tensor:
    return features.mean(1).mT @ features.mean(1) / len(features)


def by_moment(moment: Callable[[Tensor], Tensor], pairs: float = 2.0, trace: float = 2.0) -> Iterator[tuple]:
    """The bound by |C - I|^2 + 2 tr C - D, written anew, with its two numbers 2."""
    for features, labels, found in populations():
        count = torch.bincount(labels).double()
        shares, width = count / count.sum(), features.shape[2]
        mu = torch.stack([features[labels == k].flatten(0, 1).mean(0) for k in range(len(count))])
        matrix = moment(features)
        identity = torch.eye(width, dtype=torch.float64)
        squared = (matrix - identity).square().sum() + trace * matrix.trace() - width
        rest = squared - (shares * mu.square().sum(1)).square().sum()
        products = pairs * shares[found.pairs.classes].prod(1)
        yield found.pairs.products, (rest / products).clamp(min=0).sqrt()


def test_broken_cross_correlation_is_caught() -> None:
    assert violations(by_moment(all_views)) == 0
    for (_, bound), (_, found) in zip(by_moment(all_views), named("cross_correlation"), strict=True):
        torch.testing.assert_close(bound, found, rtol=1e-6, atol=1e-6)
    assert violations(by_moment(other_views)) > 0
    assert violations(by_moment(all_views, pairs=4.0)) > 0
    assert violations(by_moment(all_views, trace=1.0)) > 0


@pytest.mark.parametrize("name", FOUR)
def test_a_bound_that_is_lower_by_a_tenth_is_caught(name: str) -> None:
    assert violations((product, bound - 0.1) for product, bound in named(name)) > 20


# ------------------------------------------------------------------ what they say


def test_a_perfect_simplex_is_bounded_tightly_but_by_info_nce() -> None:
    corners = torch.eye(4, dtype=torch.float64) - 1 / 4
    found = divergence_bounds(normalize(corners, dim=1)[:, None].repeat(1, 2, 1), torch.arange(4))
    assert found.divergence.item() == pytest.approx(-1 / 3)
    for name in ("cross_correlation", "spectral"):
        # all 12 pairs have the square 1/9, and each is bounded as if it were the only one
        assert getattr(found, name).item() == pytest.approx(math.sqrt(6) / 3)
    assert found.vacuous.tolist() == [True, False, False, False]


def test_uncollapsed_classes_of_many_dimensions_leave_info_nce_something_to_say() -> None:
    labels = torch.arange(200) % 2
    found = divergence_bounds(torch.eye(200)[:, None].repeat(1, 2, 1), labels)
    assert found.divergence == 0.0
    assert 0 <= found.info_nce < 0.02
    assert not found.vacuous.any()


def test_one_point_is_vacuous_for_all() -> None:
    found = divergence_bounds(torch.ones(6, 2, 3), torch.arange(6) % 2)
    assert found.divergence.item() == pytest.approx(1.0)
    assert all(getattr(found, name) >= 1 - ROUNDING for name in FOUR)
    assert found.standardized_divergence == found.barlow_twins == 0.0  # nothing is left of constant features


def test_many_classes_and_half_precision_are_finite() -> None:
    features = normalize(torch.randn(300, 2, 4), dim=2).half()
    found = divergence_bounds(features, torch.arange(300) % 150)
    assert all(values.isfinite().all() for values in found[:-1])


def test_blocks_of_views_and_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = population(5)
    expected = divergence_bounds(features, labels).info_nce
    monkeypatch.setattr("lightning_ssl_theory.row_blocks.BLOCK_SIZE", 64)
    monkeypatch.setattr(import_module("lightning_ssl_theory.metrics.divergence_bounds"), "_MOST_FACTORS", 2)
    torch.testing.assert_close(divergence_bounds(features, labels).info_nce, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.ones(4, 1, 2), torch.arange(4) % 2, "Expected `features` of at least two views, got one"),
        (torch.ones(4, 2), torch.arange(4) % 2, "Expected `features` of shape"),
        (
            torch.eye(4)[:, None] * torch.ones(2, 1).cumsum(0),
            torch.arange(4) % 2,
            "`features` of one norm, got 1 to 2",
        ),
        (torch.ones(4, 2, 2) * math.nan, torch.arange(4) % 2, "Expected finite `features`"),
        (torch.ones(4, 2, 2), torch.zeros(4, dtype=torch.long), "at least two classes, got only class 0"),
        (
            torch.ones(4, 2, 2),
            torch.arange(4) % 2 * 2,
            "samples of every class in 0..2, found none of class 1",
        ),
    ],
)
def test_rejects_bad_input(features: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        divergence_bounds(features, labels)
