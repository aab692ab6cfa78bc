"""Dictionaries have orthonormal columns, and what has not is refused with the distance from it."""

import math

import pytest
import torch

from lightning_ssl_theory.sparse_coding import check_dictionary, random_dictionary


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("num_features", "num_atoms"), [(1, 1), (5, 5), (40, 7)])
def test_random_dictionary_is_orthonormal_and_a_function_of_its_generator(num_features, num_atoms):
    atoms = random_dictionary(num_features, num_atoms, generator=seeded())
    assert atoms.shape == (num_features, num_atoms)
    for j in range(num_atoms):
        for k in range(num_atoms):
            product = sum(float(a) * float(b) for a, b in zip(atoms[:, j], atoms[:, k], strict=True))
            assert product == pytest.approx(float(j == k), abs=1e-6)
    check_dictionary(atoms)
    assert torch.equal(atoms, random_dictionary(num_features, num_atoms, generator=seeded()))
    assert not torch.equal(
        atoms.abs(), random_dictionary(num_features, num_atoms, generator=seeded(1)).abs()
    ) or (num_features == 1)


def test_random_dictionary_is_uniform():
    # Under the uniform law every entry has mean 0 and variance 1/d1: 400 draws, standard errors 0.011 and 0.008.
    entries = torch.stack([random_dictionary(3, 2, generator=seeded(seed)) for seed in range(400)])
    assert entries.mean(0).abs().max() < 4 * math.sqrt(1 / 3 / 400)
    assert (entries.square().mean(0) - 1 / 3).abs().max() < 4 * math.sqrt(4 / 45 / 400)


def test_random_dictionary_is_incoherent():
    # d1 d = 2^14 normal entries of variance 1/d1 stay below 4.6 deviations but for 1 in 14 dictionaries.
    atoms = random_dictionary(512, 32, generator=seeded())
    assert atoms.abs().max() < 4.6 / math.sqrt(512)


@pytest.mark.parametrize(
    ("num_features", "num_atoms", "message"),
    [
        (3, 5, "Expected `num_features` >= `num_atoms` = 5, got 3; orthonormal atoms need"),
        (3, 0, "Expected `num_atoms` of at least 1, got 0"),
    ],
)
def test_rejected_sizes(num_features, num_atoms, message):
    with pytest.raises(ValueError, match=message):
        random_dictionary(num_features, num_atoms)


@pytest.mark.parametrize(
    ("dictionary", "message"),
    [
        (torch.ones(3, 2), r"orthonormal columns, got max \|M\^T M - I\| = 3; pass torch.linalg.qr"),
        (1.01 * torch.eye(3), r"got max \|M\^T M - I\| = 0.02; pass"),
        (
            torch.eye(3)[:2],
            r"Expected `dictionary` of shape \(d1, d\) with d1 >= d, got \(2, 3\); pass atoms",
        ),
        (torch.eye(3)[0], r"Expected `dictionary` of shape \(d1, d\), got \(3,\); pass a matrix"),
        (torch.zeros(3, 0), "`dictionary` with at least one column, got none; pass atoms"),
        (torch.full((3, 2), math.nan), "Expected finite `dictionary`, got 6 of 6"),
    ],
)
def test_rejected_dictionaries(dictionary, message):
    with pytest.raises(ValueError, match=message):
        check_dictionary(dictionary)
    with pytest.raises(TypeError, match=r"Expected `dictionary` to be a torch.Tensor, got list"):
        check_dictionary([[1.0]])
