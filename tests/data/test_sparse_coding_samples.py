"""Samples of the sparse coding model have the law that they claim."""

import math

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.data import random_task, sparse_coding_samples, task_labels
from lightning_ssl_theory.sparse_coding import random_dictionary

NUM_SAMPLES, PROBABILITY, NOISE_STD = 40_000, 0.3, 0.5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def world():
    dictionary = random_dictionary(6, 3, generator=seeded(1)).double()
    law = {"probability": PROBABILITY, "noise_std": NOISE_STD}
    return dictionary, sparse_coding_samples(dictionary, NUM_SAMPLES, **law, generator=seeded())


def test_codes_are_symmetric_and_independent(world):
    _, (_, codes) = world
    assert set(codes.unique().tolist()) == {-1.0, 0.0, 1.0}
    for value in (-1.0, 1.0):
        share = (codes == value).double().mean(0)
        assert (share - PROBABILITY / 2).abs().max() < 4 * math.sqrt(0.15 * 0.85 / NUM_SAMPLES)
    # no correlation of values, nor of being active
    for rows, variance in ((codes, PROBABILITY), ((codes != 0).double() - PROBABILITY, 0.21)):
        products = rows.mT @ rows / NUM_SAMPLES
        off_diagonal = products - torch.diag(products.diagonal())
        assert off_diagonal.abs().max() < 4 * variance / math.sqrt(NUM_SAMPLES)


def test_noise_is_white_gaussian_and_independent_of_the_codes(world):
    dictionary, (inputs, codes) = world
    noise = inputs - codes @ dictionary.mT
    error = 4 / math.sqrt(NUM_SAMPLES)
    assert_close(noise.mean(0), torch.zeros(6, dtype=noise.dtype), rtol=0, atol=NOISE_STD * error)
    covariance = noise.mT @ noise / NUM_SAMPLES
    assert_close(covariance, 0.25 * torch.eye(6, dtype=noise.dtype), rtol=0, atol=0.25 * 2**0.5 * error)
    assert (noise.mT @ codes / NUM_SAMPLES).abs().max() < NOISE_STD * math.sqrt(PROBABILITY) * error
    fourth = (noise / NOISE_STD).pow(4).mean()
    assert float(fourth) == pytest.approx(3, abs=4 * math.sqrt(96 / (6 * NUM_SAMPLES)))


def test_a_function_of_the_generator(world):
    dictionary, (inputs, codes) = world
    law = {"probability": PROBABILITY, "noise_std": NOISE_STD}
    again = sparse_coding_samples(dictionary, NUM_SAMPLES, **law, generator=seeded())
    assert torch.equal(again.inputs, inputs)
    assert torch.equal(again.codes, codes)
    before = torch.get_rng_state()
    other = sparse_coding_samples(dictionary, NUM_SAMPLES, **law, generator=seeded(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(other.codes, codes)


def test_edges():
    dictionary = torch.eye(3)[:, :2]
    inputs, codes = sparse_coding_samples(dictionary, 100, probability=1.0, noise_std=0.0)
    assert torch.equal(inputs, codes @ dictionary.mT)
    assert codes.abs().min() == 1
    assert inputs.dtype == torch.float32
    assert sparse_coding_samples(dictionary, 0, probability=0.5, noise_std=1.0).inputs.shape == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probability": 0.0}, r"Expected `probability` in \(0, 1\], got 0.0; it is the share of samples"),
        ({"probability": 1.5}, r"Expected `probability` in \(0, 1\], got 1.5"),
        ({"probability": math.nan}, r"Expected `probability` in \(0, 1\], got nan"),
        ({"noise_std": -0.1}, r"Expected `noise_std` >= 0, got -0\.1"),
        ({"noise_std": math.inf}, "Expected `noise_std` >= 0, got inf"),
        ({"dictionary": torch.ones(3, 2)}, r"orthonormal columns, got max \|M\^T M - I\| = 3"),
        ({"dictionary": torch.eye(3)[:2]}, "with d1 >= d, got"),
    ],
)
def test_rejected(arguments, message):
    law = {"dictionary": torch.eye(3), "num_samples": 2, "probability": 0.5, "noise_std": 1.0} | arguments
    with pytest.raises(ValueError, match=message):
        sparse_coding_samples(**law)


def test_tasks():
    task = random_task(1000, generator=seeded())
    assert task.abs().min() >= 0.5
    assert task.abs().max() <= 1.5
    assert abs(float((task > 0).float().mean()) - 0.5) < 4 * 0.5 / 1000**0.5
    codes = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, -1.0], [-1.0, 0.0]])
    assert task_labels(codes, torch.tensor([1.0, 0.5])).tolist() == [1, -1, 1, 0]
    with pytest.raises(ValueError, match=r"Expected `task` of shape \(2,\), got \(3,\)"):
        task_labels(codes, torch.ones(3))
