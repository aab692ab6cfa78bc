"""Random weight vectors: signs, uncorrelated, the same for the same seed."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.tracing.weight_directions import WeightDirections

LAYERS = [
    pytest.param(nn.Linear(3, 2), (1, 2, 3), id="linear"),
    pytest.param(nn.Conv2d(4, 6, (1, 2), groups=2), (2, 3, 4), id="grouped"),
    pytest.param(nn.LayerNorm((2, 3)), (6, 1, 1), id="norm"),
]


def both(layer, num_directions, seed=0):
    directions = WeightDirections(layer, num_directions, seed=seed, like=torch.zeros((), dtype=torch.float64))
    factored = torch.einsum("rgo,rgf->gofr", directions.left, directions.right).flatten(0, 2)
    return directions.dense, factored


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_signs_with_the_identity_as_their_covariance(layer, shape):
    num_weights, num_directions = layer.weight.numel(), 20_000
    for vectors in both(layer, num_directions):
        assert vectors.shape == (num_weights, num_directions)
        assert vectors.abs().eq(1).all()
        covariance = vectors @ vectors.mT / num_directions
        # 5 standard deviations of a mean of signs
        assert (covariance - torch.eye(num_weights)).abs().max() < 5 / num_directions**0.5
    directions = WeightDirections(layer, 4, seed=0, like=torch.zeros(()))
    assert (directions.left.shape, directions.right.shape) == ((4, *shape[:2]), (4, shape[0], shape[2]))


def test_the_seed_decides():
    layer = nn.Linear(5, 4)
    for one, same, other in zip(both(layer, 8), both(layer, 8), both(layer, 8, seed=1), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_type_of_the_tensor_that_it_shall_be_like():
    directions = WeightDirections(nn.Linear(3, 2), 3, seed=0, like=torch.zeros((), dtype=torch.bfloat16))
    assert directions.dense.dtype == torch.bfloat16
    assert_close(directions.dense.float().abs(), torch.ones(6, 3))
