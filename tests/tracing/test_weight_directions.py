"""Random weight vectors: signs, uncorrelated, the same for the same seed."""

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.tracing.layer_kinds import Convolution, Dense, Scale
from lightning_ssl_theory.tracing.weight_directions import WeightDirections

LAYERS = [
    pytest.param(Dense(torch.Size((2, 3))), (1, 2, 3), id="linear"),
    pytest.param(Convolution(torch.Size((6, 2, 1, 2)), (1, 1), (0, 0), (1, 1), 2), (2, 3, 4), id="grouped"),
    pytest.param(Scale(torch.Size((2, 3)), is_trailing=True), (6, 1, 1), id="norm"),
]


def drawn(kind, num_directions, seed=0):
    directions = WeightDirections(kind, num_directions, seed=seed, like=torch.zeros((), dtype=torch.float64))
    return torch.einsum("rgo,rgf->gofr", directions.left, directions.right).flatten(0, 2)


@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_signs_with_the_identity_as_their_covariance(kind, shape):
    num_weights, num_directions = kind.shape.numel(), 20_000
    vectors = drawn(kind, num_directions)
    assert vectors.shape == (num_weights, num_directions)
    assert vectors.abs().eq(1).all()
    covariance = vectors @ vectors.mT / num_directions
    # 5 standard deviations of a mean of signs
    assert (covariance - torch.eye(num_weights)).abs().max() < 5 / num_directions**0.5
    directions = WeightDirections(kind, 4, seed=0, like=torch.zeros(()))
    assert (directions.left.shape, directions.right.shape) == ((4, *shape[:2]), (4, shape[0], shape[2]))


def test_the_seed_decides():
    kind = Dense(torch.Size((4, 5)))
    one, same, other = (drawn(kind, 8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_type_of_the_tensor_that_it_shall_be_like():
    kind = Dense(torch.Size((2, 3)))
    directions = WeightDirections(kind, 3, seed=0, like=torch.zeros((), dtype=torch.bfloat16))
    assert directions.left.dtype == directions.right.dtype == torch.bfloat16
    assert_close(directions.left.float().abs(), torch.ones(3, 1, 2))


def test_no_vector_of_all_weights_is_held():
    """Of a layer with 10^12 weights: the factors alone, r (O + F) numbers."""
    kind = Dense(torch.Size((10**6, 10**6)))
    directions = WeightDirections(kind, 2, seed=0, like=torch.zeros(()))
    assert directions.left.numel() + directions.right.numel() == 2 * 2 * 10**6
