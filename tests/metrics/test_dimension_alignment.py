"""Mean absolute correlation of the dimensions: against loops, its laws, and the edges."""

import math
from itertools import combinations

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.metrics import dimension_alignment, feature_effective_rank


def loop(features):
    n, d = features.shape
    columns = [[row[k] for row in features.tolist()] for k in range(d)]
    columns = [[value - sum(column) / n for value in column] for column in columns]
    found = []
    for a, b in combinations(columns, 2):
        product = sum(x * y for x, y in zip(a, b, strict=True))
        found.append(abs(product) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b)))
    return sum(found) / len(found)


def draw(num_samples=20, width=5):
    return torch.randn(num_samples, width, dtype=torch.float64) @ torch.randn(
        width, width, dtype=torch.float64
    )


def test_oracle_by_hand():
    assert loop(
        torch.tensor([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    ) == pytest.approx(1 / 3)


def test_by_loop_and_within_the_rank_metric():
    features = draw() + 3
    assert_close(dimension_alignment(features).item(), loop(features))
    assert_close(
        feature_effective_rank(features).dimension_alignment.item(), loop(features), rtol=1e-9, atol=0
    )


def test_invariant_under_shift_and_scale_of_each_dimension():
    features = draw()
    moved = features * torch.tensor([1.0, -2.0, 1e-6, 5.0, 100.0]) + torch.arange(5)
    assert_close(dimension_alignment(moved), dimension_alignment(features))


def test_collapsed_reads_one():
    direction = torch.randn(30, 1) * torch.tensor([[1.0, -3.0, 1e-4]])
    for features in (direction, torch.ones(30, 3), torch.randn(30, 1), torch.tensor([[1.0, 2.0]])):
        assert dimension_alignment(features).item() == pytest.approx(1.0, abs=1e-6)
        assert feature_effective_rank(features).dimension_alignment.item() == pytest.approx(1.0, abs=1e-6)


def test_uncorrelated_reads_zero_and_constant_dimensions_are_left_out():
    corners = torch.tensor([[1.0, 1.0, 7.0], [1.0, -1.0, 7.0], [-1.0, 1.0, 7.0], [-1.0, -1.0, 7.0]])
    assert dimension_alignment(corners).item() == 0.0


@pytest.mark.parametrize("block_size", [1, 23, 70])
@pytest.mark.parametrize("num_samples", [5, 30], ids=["rows", "covariance"])
def test_blocks_cover_every_pair_once(monkeypatch, block_size, num_samples):
    monkeypatch.setattr("lightning_ssl_theory.row_blocks.BLOCK_SIZE", block_size)
    features = draw(num_samples, 11)
    assert_close(dimension_alignment(features).item(), loop(features))
    assert_close(feature_effective_rank(features).dimension_alignment.item(), loop(features))


def test_a_large_mean_is_no_constant():
    # Variances of 1e-10 beside squares of 1e6: 20 eps of these would be 4e-9.
    features = 1e3 + 1e-5 * draw()
    exact = (features - features[0]) * 1e5  # an exact shift, so that the loop has nothing to round
    for found in (dimension_alignment(features), feature_effective_rank(features).dimension_alignment):
        assert found.item() == pytest.approx(loop(exact), rel=1e-9)


def test_rejects():
    with pytest.raises(ValueError, match=r"Expected `features` of shape \(N, D\), got \(3,\)"):
        dimension_alignment(torch.ones(3))
    with pytest.raises(ValueError, match="Expected finite `features`"):
        dimension_alignment(torch.full((2, 2), torch.nan))
