"""Closed forms of Gaussian worlds: against their definitions, and the theory's claims on their minimiser."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from lightning_ssl_theory.data import (
    boosted_minimiser,
    conditional_moment,
    excess_risk_gap,
    feasibility_gap,
    gaussian_pretext_moments,
    largest_boost_weight,
    pretext_moments,
    processed_error,
)

SETTINGS = ["independent", "separable", "entangled", "infeasible"]
SIZES = (7, 4, 2)


def world(setting="separable", seed=0, **options):
    return gaussian_pretext_moments(setting, *SIZES, generator=torch.Generator().manual_seed(seed), **options)


def any_world(seed, sizes=SIZES):
    root = torch.randn(
        sum(sizes), sum(sizes), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return pretext_moments(root @ root.mT, sizes[0], sizes[1])


def boosted_loss(processor, moments, lamb):
    """From the definition: errors of the best linear readers."""
    inner = processor @ moments.xx @ processor.mT
    errors = []
    for cross, own in ((moments.xy, moments.yy), (moments.xz, moments.zz)):
        reader = torch.linalg.solve(inner, processor @ cross).mT
        f_cross = processor @ cross
        errors.append((own - 2 * reader @ f_cross + reader @ inner @ reader.mT).trace())
    return errors[0] - lamb * errors[1]


def test_blocks_by_hand_and_whole():
    covariance = torch.tensor([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    moments = pretext_moments(covariance, 1, 1)
    assert [round(float(block), 6) for block in moments] == [4.0, 1.0, 0.5, 3.0, 0.2, 2.0]
    assert_close(moments.covariance, covariance.double())
    assert conditional_moment(moments).item() == pytest.approx(1.0 - 0.5 * 0.2 / 2.0)
    assert largest_boost_weight(moments) == pytest.approx(100.0)
    assert processed_error(torch.ones(1, 1), moments).item() == pytest.approx(2.0 - 0.5**2 / 4.0)


@given(seed=st.integers(0, 999), lamb=st.floats(0, 3), num_outputs=st.integers(1, 7))
def test_nothing_has_less_loss_than_the_minimiser(seed, lamb, num_outputs):
    moments = any_world(seed)
    least = boosted_minimiser(moments, num_outputs, lamb)
    assert_close(least @ moments.xx @ least.mT, torch.eye(num_outputs).double(), rtol=0, atol=1e-8)
    found = boosted_loss(least, moments, lamb)
    for scale in (1e-3, 0.1, 10.0):
        other = least + scale * torch.randn(num_outputs, 7, dtype=torch.float64) * least.abs().max()
        assert boosted_loss(other, moments, lamb) >= found - 1e-9 * moments.yy.trace()


@given(seed=st.integers(0, 999))
def test_gap_is_what_a_reader_of_all_inputs_gains(seed):
    moments = any_world(seed)
    processor = torch.randn(3, 7, dtype=torch.float64)
    whole = boosted_loss(torch.eye(7).double(), moments, 0.0)
    gap = excess_risk_gap(processor, moments)
    assert_close(gap, boosted_loss(processor, moments, 0.0) - whole, rtol=1e-6, atol=1e-8)
    assert gap >= -1e-9
    twice = torch.cat([processor, 1e-6 * processor.sum(0, keepdim=True)])  # nothing new in a dependent row
    assert_close(excess_risk_gap(twice, moments), gap, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("seed", range(3))
def test_which_worlds_meet_both_criteria(setting, seed):
    moments = world(setting, seed, signal=0.8)
    assert (feasibility_gap(moments) < 1e-10) == (setting != "infeasible")
    given_y, product = conditional_moment(moments), conditional_moment(moments) @ moments.zy
    assert (torch.linalg.matrix_norm(given_y) < 1e-10) == (setting == "independent")
    if setting != "infeasible":  # the reader of y itself is a processor that meets both
        reader = torch.linalg.solve(moments.xx, moments.xy).mT
        assert torch.linalg.matrix_norm(reader @ given_y) < 1e-10
        assert excess_risk_gap(reader, moments) < 1e-10
    assert (torch.linalg.matrix_norm(product) < 1e-10) == (setting in ("independent", "separable"))
    for num_outputs in (2, 3, 5):  # M to D - rank S_{xz|y}
        processor = boosted_minimiser(moments, num_outputs, 0.5)
        c1, c2 = torch.linalg.matrix_norm(processor @ given_y), excess_risk_gap(processor, moments)
        assert (max(float(c1), float(c2)) < 1e-9) == (setting in ("independent", "separable"))


def test_the_bound_on_lambda_is_where_the_minimiser_begins_to_lose_y():
    moments = world(signal=0.5)
    bound = largest_boost_weight(moments)
    assert bound == pytest.approx(4.0)
    assert excess_risk_gap(boosted_minimiser(moments, 2, 0.99 * bound), moments) < 1e-9
    assert excess_risk_gap(boosted_minimiser(moments, 2, 1.01 * bound), moments) > 0.1
    assert largest_boost_weight(world(signal=0.0)) == float("inf")


def test_feasibility_is_free_of_units():
    moments = world("infeasible")
    blocks = [torch.randn(size, size, dtype=torch.float64) + 3 * torch.eye(size) for size in SIZES]
    mixing = torch.block_diag(*blocks)
    moved = pretext_moments(mixing @ moments.covariance @ mixing.mT, *SIZES[:2])
    # the norm is that of a product of whitened blocks, which turn with the maps
    assert_close(feasibility_gap(moved), feasibility_gap(moments), rtol=1e-8, atol=0)


def test_sentences():
    covariance, moments = torch.eye(5), world()
    with pytest.raises(ValueError, match=r"Expected `covariance` of more than .* = 5 numbers, got 5"):
        pretext_moments(covariance, 3, 2)
    with pytest.raises(
        ValueError, match="Expected a symmetric positive semi-definite `covariance`, got a least"
    ):
        pretext_moments(covariance - 2 * torch.ones(5, 5), 2, 2)
    with pytest.raises(ValueError, match="Expected a `covariance` in which y varies in every direction"):
        pretext_moments(torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])), 2, 1)
    with pytest.raises(
        ValueError, match="Expected `num_outputs` of at most 7, got 8; x has no more directions"
    ):
        boosted_minimiser(moments, 8, 0.1)
    with pytest.raises(ValueError, match="Expected `lamb` >= 0, got -1"):
        boosted_minimiser(moments, 2, -1.0)
    with pytest.raises(ValueError, match=r"Expected `processor` of shape \(E, 7\), got \(3, 6\)"):
        processed_error(torch.zeros(3, 6), moments)
    with pytest.raises(ValueError, match="Expected `num_pretext` > `num_downstream` = 2, got 2"):
        gaussian_pretext_moments("separable", 7, 2, 2)
    with pytest.raises(ValueError, match="Expected `num_features` of at least 4, got 3"):
        gaussian_pretext_moments("separable", 3, 4, 2)
    with pytest.raises(ValueError, match="Expected `setting` to be one of independent, separable"):
        gaussian_pretext_moments("both")
