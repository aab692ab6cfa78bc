"""Predicted norms of the linear stage, against the population's covariance and against training itself."""

import math
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.data import random_mask, sparse_coding_samples
from lightning_ssl_theory.losses import StopGradientInfoNCELoss
from lightning_ssl_theory.sparse_coding import (
    dense_start_std,
    growth_rates,
    largest_dense_growth,
    minibatch_floor,
    random_dictionary,
    stage_one_norms,
    theorem_law,
)

SIZES = {"num_features": 64, "num_atoms": 8}
LAW = {"probability": 0.15, "noise_std": 0.35}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def dictionary():
    return random_dictionary(64, 8, generator=seeded(1)).double()


@pytest.mark.parametrize("masks", [True, False])
def test_rates_are_the_mean_eigenvalues_of_the_population(masks):
    atoms = dictionary()
    signal = LAW["probability"] * atoms @ atoms.mT
    noise = LAW["noise_std"] ** 2 * torch.eye(64, dtype=torch.float64)
    population = signal - torch.diag(signal.diagonal()) if masks else signal + noise
    sparse = torch.trace(atoms.mT @ population @ atoms) / 8
    dense = (torch.trace(population) - 8 * sparse) / 56
    found = growth_rates(**SIZES, **LAW, masks=masks)
    # sum_j (M M^T)_jj^2 exceeds d^2 / d1 by its spread over coordinates
    assert found.sparse == pytest.approx(float(sparse), rel=0.05)
    assert found.dense == pytest.approx(float(dense), rel=0.2 if masks else 1e-9)


def test_population_of_the_samples():
    atoms = dictionary()
    inputs, _ = sparse_coding_samples(atoms, 100_000, **LAW, generator=seeded(2))
    first, second = random_mask(inputs, generator=seeded(3))
    along = torch.trace((first @ atoms).mT @ (second @ atoms)) / len(inputs) / 8
    assert float(along) == pytest.approx(growth_rates(**SIZES, **LAW, masks=True).sparse, rel=0.05)


# Mean squared norms of many neurons through training steps of the loss itself.
def trained_norms(num_steps, *, masks, batch_size, learning_rate, weight_decay):
    atoms, generator = dictionary(), seeded(4)
    weight = (1e-6 * torch.randn(400, 64, generator=generator, dtype=torch.float64)).requires_grad_()
    norms = []
    for _ in range(num_steps + 1):
        coefficients = weight.detach() @ atoms
        sparse = coefficients.square().sum(1).mean()
        norms.append([sparse, weight.detach().square().sum(1).mean() - sparse])
        inputs, _ = sparse_coding_samples(atoms, batch_size, **LAW, generator=generator)
        views = random_mask(inputs, generator=generator) if masks else (inputs, inputs)
        loss = StopGradientInfoNCELoss()(*(view @ weight.mT for view in (*views, inputs)))
        (gradient,) = torch.autograd.grad(loss, weight)
        weight.data -= learning_rate * (gradient + weight_decay * weight.data)
    return torch.tensor(norms)


@pytest.mark.parametrize(("masks", "num_steps"), [(True, 40), (False, 25)])
def test_training_follows_the_prediction(masks, num_steps):
    training = {"batch_size": 256, "learning_rate": 0.7, "weight_decay": 0.01}
    measured = trained_norms(num_steps, masks=masks, **training)
    predicted = stage_one_norms(num_steps, **SIZES, **LAW, masks=masks, **training, init_std=1e-6)
    assert_close(measured[0], predicted[0], rtol=0.05, atol=0)
    # growth of each part over all steps, in logarithms: a batch's mean is off by 5 %, 25 to 40 times, but at random
    growth, expected = (measured[-1] / measured[0]).log(), (predicted[-1] / predicted[0]).log()
    assert_close(growth, expected, rtol=0, atol=0.35)
    assert expected[0] > 3
    noiseless = stage_one_norms(
        num_steps, **SIZES, **LAW, masks=masks, **training | {"batch_size": 10**9}, init_std=1e-6
    )
    if masks:  # without the noise of mini-batches the dense part would be far smaller
        assert noiseless[-1, 1] < 0.2 * measured[-1, 1]


def test_floor_is_where_the_ratio_ends():
    training = {"batch_size": 4096, "learning_rate": 0.05}
    norms = stage_one_norms(4000, **SIZES, **LAW, masks=True, **training)
    floor = minibatch_floor(**SIZES, **LAW, **training)
    # the formula leaves out terms of the order of d/d1 = 1/8: the dense part's own decay
    assert float(norms[-1, 1] / norms[-1, 0]) == pytest.approx(floor, rel=0.15)
    assert minibatch_floor(**SIZES, **LAW, batch_size=8192, learning_rate=0.1) == pytest.approx(floor)


def test_floors_of_the_theorems_regime():
    probability, noise_std = theorem_law(32)
    found = [
        minibatch_floor(512, 32, probability=probability, noise_std=noise_std, batch_size=b, learning_rate=r)
        for b, r in ((1024, 1.0), (4096, 1.0), (1024, 0.25))
    ]
    measured = (0.121, 0.024, 0.027)
    assert all(1 / 1.5 < a / b < 1.5 for a, b in zip(found, measured, strict=True))


@pytest.mark.parametrize(("noise_share", "expected"), [(1.5, 7.6), (4.0, 225)])
def test_largest_dense_growth(noise_share, expected):
    law = {"probability": 0.04, "noise_std": (0.04 * noise_share) ** 0.5}
    assert largest_dense_growth(512, 32, **law) == pytest.approx(expected, rel=5e-3)
    # after this growth of the dense part, over the population, both norms are equal
    population = stage_one_norms(
        4000, num_features=512, num_atoms=32, **law, masks=False, batch_size=10**12, learning_rate=1e-2
    )
    growth = (population[:, 1] / population[0, 1]).sqrt()
    crossing = int((population[:, 0] < population[:, 1]).sum())
    assert float(growth[crossing]) == pytest.approx(largest_dense_growth(512, 32, **law), rel=0.02)


@pytest.mark.parametrize(("margin", "is_ahead"), [(1.2, True), (0.8, False)])
def test_dense_part_is_ahead_when_the_loss_is_fitted(margin, is_ahead):
    training = {"num_neurons": 128, "batch_size": 256}
    start = dense_start_std(**SIZES, **LAW, **training, margin=margin)
    # the population, in steps so small that both parts grow at their rates
    options = {"masks": False, "batch_size": 10**12, "learning_rate": 1e-2, "init_std": start}
    norms = stage_one_norms(4000, **SIZES, **LAW, **options)
    similarity = 128 * LAW["noise_std"] ** 2 * norms[:, 1]
    fitted = int((similarity < math.log(256)).sum())
    assert 0 < fitted < 4000
    assert bool(norms[fitted, 1] > norms[fitted, 0]) == is_ahead
    growth = float((norms[fitted, 1] / norms[0, 1]).sqrt())
    assert growth == pytest.approx(largest_dense_growth(**SIZES, **LAW) / margin, rel=1e-2)


def test_numbers_beyond_floats():
    law = {"probability": 1e-6, "noise_std": 30.0}
    assert dense_start_std(512, 32, **law, num_neurons=1, batch_size=2) == 0
    assert largest_dense_growth(512, 32, probability=1e-6, noise_std=30.0) == math.inf
    law = {"probability": 1.0, "noise_std": 0.0, "masks": False, "batch_size": 9, "learning_rate": 1.0}
    with pytest.raises(
        ValueError,
        match="norms that stay finite over `num_steps` = 5000, got an overflow; the linear stage ends",
    ):
        stage_one_norms(5000, **SIZES, **law)


def test_rejected():
    with pytest.raises(ValueError, match="Expected `batch_size` of at least 1, got 0"):
        minibatch_floor(**SIZES, **LAW, batch_size=0, learning_rate=1.0)
    with pytest.raises(ValueError, match="Expected `learning_rate` > 0, got 0"):
        minibatch_floor(**SIZES, **LAW, batch_size=1, learning_rate=0)
    with pytest.raises(ValueError, match="Expected `batch_size` of at least 1, got 0"):
        stage_one_norms(1, **SIZES, **LAW, masks=True, batch_size=0, learning_rate=1.0)
    with pytest.raises(ValueError, match=r"Expected `probability` in \(0, 1\], got 0"):
        largest_dense_growth(4, 2, probability=0, noise_std=1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"noise_std": 0.0}, "Expected `noise_std` > 0, got 0"),
        ({"num_neurons": 0}, "Expected `num_neurons` of at least 1, got 0"),
        ({"margin": 0.0}, "Expected `margin` > 0, got 0"),
        ({"batch_size": 1}, "Expected `batch_size` of at least 2, got 1; a single sample has no negatives"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_rejected_starts(wrong, message):
    with pytest.raises(ValueError, match=message):
        dense_start_std(**SIZES, **LAW | {"num_neurons": 8, "batch_size": 8} | wrong)


@pytest.mark.parametrize(("num_features", "num_atoms"), [(4, 8), (4, 4), (4, 0)])
@pytest.mark.parametrize(
    "predict",
    [
        partial(growth_rates, masks=True),
        partial(minibatch_floor, batch_size=1, learning_rate=1.0),
        partial(stage_one_norms, 1, masks=True, batch_size=1, learning_rate=1.0),
        largest_dense_growth,
        partial(dense_start_std, num_neurons=1, batch_size=2),
    ],
    ids=["rates", "floor", "norms", "growth", "start"],
)
def test_rejected_models(predict, num_features, num_atoms):
    sizes = {"num_features": num_features, "num_atoms": num_atoms}
    with pytest.raises(
        ValueError,
        match=rf"Expected `num_atoms` of at (most 3|least 1), got {num_atoms}; a dictionary has fewer",
    ):
        predict(**sizes, **LAW)
    with pytest.raises(ValueError, match=r"Expected `probability` in \(0, 1\], got 0"):
        predict(**SIZES, **LAW | {"probability": 0})
