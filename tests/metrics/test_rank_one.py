"""Theorem 6: the children's covariance over roots is rho_0mu^2 a a^T, by enumeration and by loops."""

import itertools
from functools import partial

import pytest
import torch
from helpers.check_metric import check_metric, check_two_ranks
from torch.testing import assert_close

from lightning_ssl_theory.data import random_polarities, root_correlations
from lightning_ssl_theory.data.latent_tree_sampler import latents_from_uniforms
from lightning_ssl_theory.metrics import RankOne, rank_one

LATENTS, INPUTS = 2, 3


def batch(num_samples, seed):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randint(0, 2, (num_samples, LATENTS), generator=generator)
    signal = latents.unsqueeze(2) * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    views = [
        (
            signal + torch.randn(num_samples, LATENTS, INPUTS, generator=generator, dtype=torch.float64)
        ).flatten(1)
        for _ in range(2)
    ]
    return *views, latents


BATCHES = [batch(30, 0), batch(11, 1)]


def loop(batches):
    """Sample covariance of two views, its leading eigenpair by `eig`, and the gap between conditional means."""
    first, second, latents = (torch.cat(parts).double() for parts in zip(*batches, strict=True))
    found = {"leading_share": [], "cosine": [], "scale": []}
    for mu in range(LATENTS):
        rows = slice(mu * INPUTS, (mu + 1) * INPUTS)
        f, g, z = first[:, rows], second[:, rows], latents[:, mu]
        covariance = torch.zeros(INPUTS, INPUTS, dtype=torch.float64)
        for i in range(len(f)):
            difference = torch.outer(f[i] - f.mean(0), g[i] - g.mean(0)) / len(f)
            covariance += (difference + difference.mT) / 2
        values, vectors = torch.linalg.eig(covariance)
        top = int(values.real.argmax())
        a = (f[z == 1].mean(0) - f[z == 0].mean(0)) / 2
        found["leading_share"].append(values.real[top] / values.real.abs().sum())
        found["cosine"].append((vectors[:, top].real @ a).abs() / a.norm())
        found["scale"].append(values.real[top] / a.square().sum())
    return {name: torch.stack(values) for name, values in found.items()}


def test_matches_loop():
    check_metric(partial(RankOne, LATENTS, INPUTS), BATCHES, loop)


@pytest.mark.ddp
def test_two_ranks():
    check_two_ranks({"rank one": (partial(RankOne, LATENTS, INPUTS), BATCHES)})


def all_outcomes(polarities):
    """Every outcome of a tree below both roots, and its probability given the root."""
    num_nodes = sum(len(level) for level in polarities)
    flips = torch.tensor(list(itertools.product([False, True], repeat=num_nodes)))
    chance = (1 - torch.cat(polarities).double()) / 2
    weights = torch.where(flips, chance, 1 - chance).prod(1)
    uniforms = torch.where(flips, 0.0, 1 - 1e-7)  # below and above every threshold
    outcomes = [
        latents_from_uniforms(torch.full((len(flips),), bool(root)), uniforms, polarities) for root in (0, 1)
    ]
    return outcomes, weights


def test_theorem_by_enumeration():
    """V_{z0}[E[f | z0]] = rho_0mu^2 a a^T to rounding, for any function of each child."""
    polarities = random_polarities(2, 2, polarity=(0.2, 0.9), generator=torch.Generator().manual_seed(1))
    outcomes, weights = all_outcomes(polarities)
    assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    to_root = root_correlations(polarities)
    for mu in range(2):
        means = []
        parents, activations = [], []
        for levels in outcomes:
            children = levels[2][:, 2 * mu : 2 * mu + 2].double()
            f = torch.cat([children * 3 - 1, (1 - children) * 0.5], dim=1)  # two neurons a child
            means.append(weights @ f)
            parents.append(levels[1][:, mu])
            activations.append(f)
        covariance = torch.outer(means[1] - means[0], means[1] - means[0]) / 4
        z, f, p = torch.cat(parents), torch.cat(activations), weights.repeat(2) / 2
        conditional = [(p[z == value] @ f[z == value]) / p[z == value].sum() for value in (False, True)]
        a = (conditional[1] - conditional[0]) / 2
        assert_close(covariance, to_root[1][mu].double() ** 2 * torch.outer(a, a), atol=1e-7, rtol=0)
        # the estimate from samples drawn with these very probabilities
        generator = torch.Generator().manual_seed(2)
        roots = torch.randint(0, 2, (100_000,), generator=generator)
        drawn = [
            torch.multinomial(weights, len(roots), replacement=True, generator=generator) for _ in range(2)
        ]
        views = [torch.stack(activations)[roots, index] for index in drawn]
        found = rank_one(*views, torch.stack(parents)[roots, drawn[0]].long().unsqueeze(1))
        assert float(found.leading_share) > 0.95
        assert float(found.cosine) > 0.999
        assert float(found.scale) == pytest.approx(float(to_root[1][mu]) ** 2, rel=0.05)


def test_no_signal():
    found = rank_one(torch.ones(4, 2), torch.ones(4, 2), torch.tensor([[0], [1], [0], [1]]))
    assert found.leading_share.tolist() == [0.0]
    assert found.cosine.tolist() == [0.0]
    assert found.scale.isnan().all()


@pytest.mark.parametrize(
    ("first", "second", "latents", "message"),
    [
        (
            torch.zeros(3, 4),
            torch.zeros(3, 2),
            torch.zeros(3, 2),
            r"Expected `first` and `second` of shape \(N, M, F\) for 2 `latents`",
        ),
        (
            torch.zeros(3, 5),
            torch.zeros(3, 5),
            torch.zeros(3, 2),
            r"Expected `first` and `second` of shape \(N, M, F\) for 2 `latents`",
        ),
        (
            torch.zeros(3, 4),
            torch.zeros(3, 4),
            torch.full((3, 2), 0.5),
            r"Expected `latents` of zeros and ones",
        ),
        (
            torch.zeros(3, 4),
            torch.zeros(3, 4),
            torch.zeros(3, 0),
            r"Expected `latents` of shape \(3, M\) with M >= 1, got \(3, 0\)",
        ),
        (torch.full((3, 2), torch.inf), torch.zeros(3, 2), torch.zeros(3, 2), r"Expected finite `first`"),
        (torch.zeros(3, 2), torch.full((3, 2), torch.inf), torch.zeros(3, 2), r"Expected finite `second`"),
    ],
)
def test_rejected(first, second, latents, message):
    with pytest.raises(ValueError, match=message):
        rank_one(first, second, latents)


def test_metric_rejects_sizes_and_shapes():
    with pytest.raises(ValueError, match=r"Expected `num_latents` of at least 1, got 0"):
        RankOne(0, 2)
    with pytest.raises(ValueError, match=r"Expected `num_inputs` of at least 1, got 0"):
        RankOne(2, 0)
    with pytest.raises(ValueError, match=r"Expected `first` of shape \(N, 6\), got \(3, 5\)"):
        RankOne(LATENTS, INPUTS).update(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(3, LATENTS))
    with pytest.raises(ValueError, match=r"Expected `first` of shape \(N, M, \*\), got \(6,\)"):
        RankOne(LATENTS, INPUTS).update(torch.zeros(6), torch.zeros(6), torch.zeros(1, LATENTS))
