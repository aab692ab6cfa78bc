"""Selectivity and normalised correlation against loops over neurons and samples."""

import math
from functools import partial

import pytest
import torch
from helpers.check_metric import check_metric, check_two_ranks
from torch.testing import assert_close

from lightning_ssl_theory.data import random_polarities, sample_latents, sample_roots
from lightning_ssl_theory.metrics import LatentSelectivity, latent_selectivity, lucky_nodes

LATENTS, SIZE = 3, 4


def batch(num_samples, seed):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randint(0, 2, (num_samples, LATENTS), generator=generator)
    gains = torch.linspace(-1, 1, LATENTS * SIZE).reshape(LATENTS, SIZE)
    noise = torch.randn(num_samples, LATENTS, SIZE, generator=generator, dtype=torch.float64)
    features = latents.unsqueeze(2) * gains + noise - 1.5
    return features.flatten(1), latents


BATCHES = [batch(20, 0), batch(7, 1), batch(33, 2)]


def loop(batches):
    """Definitions of the paper, one neuron at a time."""
    features = torch.cat([f for f, _ in batches]).double()
    latents = torch.cat([z for _, z in batches])
    found = {"selectivity": [], "correlation": [], "is_active": []}
    for mu in range(LATENTS):
        z = [int(value) for value in latents[:, mu]]
        for row in found.values():
            row.append([])
        for j in range(SIZE):
            f = [float(value) for value in features[:, mu * SIZE + j]]
            ones = [x for x, value in zip(f, z, strict=True) if value == 1]
            zeros = [x for x, value in zip(f, z, strict=True) if value == 0]
            f_mean, z_mean = sum(f) / len(f), sum(z) / len(z)
            covariance = sum((x - f_mean) * (value - z_mean) for x, value in zip(f, z, strict=True))
            spread = sum((x - f_mean) ** 2 for x in f) * sum((value - z_mean) ** 2 for value in z)
            found["selectivity"][-1].append((sum(ones) / len(ones) - sum(zeros) / len(zeros)) / 2)
            found["correlation"][-1].append(covariance / math.sqrt(spread))
            found["is_active"][-1].append(max(f) > 0)
    best = [max(range(SIZE), key=lambda j, row=row: abs(row[j])) for row in found["correlation"]]
    nc = [abs(row[j]) for row, j in zip(found["correlation"], best, strict=True)]
    return found | {"best_node": best, "normalized_correlation": nc}


def test_loop_by_hand():
    features = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, -1.0], [6.0, 1.0]])
    found = latent_selectivity(features, torch.tensor([[0], [0], [1], [1]]))
    assert found.selectivity.tolist() == [[2.0, -0.5]]
    # cov(f, z) = 1 over all four, var f = 5, var z = 1/4
    assert_close(found.normalized_correlation, torch.tensor([2 / math.sqrt(5)], dtype=torch.float64))
    assert found.best_node.tolist() == [0]


def test_matches_loop():
    check_metric(partial(LatentSelectivity, LATENTS, SIZE), BATCHES, loop)


@pytest.mark.ddp
def test_two_ranks():
    check_two_ranks({"latent": (partial(LatentSelectivity, LATENTS, SIZE), BATCHES[:2])})


def test_signs_scales_and_shifts():
    features, latents = BATCHES[0]
    found = latent_selectivity(features, latents)
    moved = latent_selectivity(3 * features + 7, latents)
    flipped = latent_selectivity(features, 1 - latents)
    assert_close(moved.selectivity, 3 * found.selectivity)
    assert_close(moved.normalized_correlation, found.normalized_correlation)
    assert_close(flipped.selectivity, -found.selectivity)
    assert_close(flipped.normalized_correlation, found.normalized_correlation)
    assert_close(latent_selectivity(features.unflatten(1, (LATENTS, SIZE)), latents), found)


def test_selectivity_of_children_times_polarity_is_that_of_a_linear_map():
    # E[w^T f | 1] - E[w^T f | 0] = 2 w^T a with a_k = rho s_k: exact on the samples for the children's own gap
    generator = torch.Generator().manual_seed(0)
    polarities = random_polarities(1, 3, polarity=(0.4, 0.9), generator=generator)
    roots = sample_roots(50_000, generator=generator)
    children = sample_latents(roots, polarities, generator=generator)[1]
    scales = torch.tensor([2.0, -1.0, 0.5])
    activations = scales * children + 1
    weights = torch.randn(5, 3, generator=generator)
    pre = latent_selectivity(activations @ weights.mT + 0.3, roots.long().unsqueeze(1)).selectivity[0]
    own = torch.stack(
        [
            latent_selectivity(activations[:, k : k + 1], children[:, k : k + 1]).selectivity[0, 0]
            for k in range(3)
        ]
    )
    a = polarities[0].double() * own
    assert_close(pre, weights.double() @ a, atol=0.03, rtol=0)
    exact = latent_selectivity(activations, roots.long().unsqueeze(1)).selectivity[0]
    assert_close(pre, weights.double() @ exact, atol=1e-6, rtol=0)


def test_constant_neurons_and_latents_of_one_value():
    found = latent_selectivity(torch.tensor([[0.1, 0.2], [0.1, 0.4]]), torch.tensor([[0], [1]]))
    assert found.correlation[0, 0] == 0
    assert found.best_node.tolist() == [1]
    alone = latent_selectivity(torch.rand(4, 4), torch.tensor([[0, 0], [0, 1], [0, 0], [0, 1]]))
    assert alone.normalized_correlation[0].isnan()
    assert not alone.normalized_correlation[1].isnan()


def test_lucky_nodes():
    alignment = torch.tensor([[0.5, 0.2, 0.9], [-0.1, -0.2, -0.3], [0.4, 0.3, 0.1]])
    is_active = torch.tensor([[True, True, False], [True, True, True], [False, False, True]])
    assert lucky_nodes(alignment, is_active).tolist() == [0, -1, 2]


def test_of_neurons_that_rounding_tells_apart_the_first_is_lucky():
    alignment = torch.tensor([[0.1, 0.7, 0.7]], dtype=torch.float64)
    for noise in (-1e-7, 0.0, 1e-7):
        shifted = alignment + torch.tensor([0.0, 0.0, noise])
        assert lucky_nodes(shifted, torch.ones(1, 3, dtype=torch.bool)).tolist() == [1]


@pytest.mark.parametrize(
    ("features", "latents", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(2, 2), r"Expected `latents` of shape \(3, M\), got \(2, 2\)"),
        (torch.zeros(3, 4), torch.full((3, 2), 2), r"Expected `latents` of zeros and ones"),
        (
            torch.zeros(3, 4),
            torch.zeros(3, 0),
            r"Expected `latents` of shape \(3, M\) with M >= 1, got \(3, 0\)",
        ),
        (
            torch.zeros(3, 5),
            torch.zeros(3, 2),
            r"Expected `features` with the same number of neurons, one at least, for each of 2",
        ),
        (torch.zeros(3, 0, 0), torch.zeros(3, 2), r"the same number of neurons, one at least"),
        (torch.full((3, 4), torch.nan), torch.zeros(3, 2), r"Expected finite `features`, got 12 of 12"),
        (torch.zeros(3), torch.zeros(3, 2), r"Expected `features` of shape \(N, M, \*\), got \(3,\)"),
    ],
)
def test_rejected(features, latents, message):
    with pytest.raises(ValueError, match=message):
        latent_selectivity(features, latents)


def test_metric_rejects_sizes_and_shapes():
    with pytest.raises(ValueError, match=r"Expected `num_latents` of at least 1, got 0"):
        LatentSelectivity(0, 2)
    with pytest.raises(ValueError, match=r"Expected `group_size` of at least 1, got 0"):
        LatentSelectivity(2, 0)
    with pytest.raises(ValueError, match=r"Expected `features` of shape \(N, 12\), got \(3, 5\)"):
        LatentSelectivity(LATENTS, SIZE).update(torch.zeros(3, 5), torch.zeros(3, LATENTS))
    with pytest.raises(ValueError, match=r"Expected `features` of shape \(N, M, \*\), got \(12,\)"):
        LatentSelectivity(LATENTS, SIZE).update(torch.zeros(12), torch.zeros(1, LATENTS))
