"""The theorem's law of codes and noise, and the names that other rooms used to hold."""

import math

import pytest

from lightning_ssl_theory import data, flows, sparse_coding
from lightning_ssl_theory.sparse_coding import theorem_law


def test_law_of_the_theorem():
    for num_atoms in (3, 32, 4096):
        probability, noise_std = theorem_law(num_atoms)
        assert probability == pytest.approx(math.log(math.log(num_atoms)) / num_atoms)
        assert noise_std**2 == pytest.approx(math.sqrt(math.log(num_atoms)) / num_atoms)
        assert noise_std**2 >= probability
    with pytest.raises(ValueError, match="Expected `num_atoms` of at least 3, got 2"):
        theorem_law(2)


@pytest.mark.parametrize(
    ("room", "names"),
    [
        (data, "bayes_r2 best_soft_threshold linear_r2 soft_threshold_r2 theorem_law"),
        (flows, "GrowthRates growth_rates largest_dense_growth minibatch_floor stage_one_norms"),
    ],
)
def test_names_are_found_where_they_used_to_be(room, names):
    for name in names.split():
        assert getattr(room, name) is getattr(sparse_coding, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        room.nothing  # noqa: B018
