"""The Frobenius norm from pairs of different probes and of different random vectors."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.operators.scalar_estimates import frobenius_estimate

F64 = torch.float64


def sketches(num_probes, num_sketches):
    factors = torch.randn(num_probes, num_sketches, num_sketches, dtype=F64)
    return factors @ factors.mT


def square_loop(values, is_exact):
    """Mean over c != c' and k != l of C_c[k, l] C_c'[k, l]."""
    if is_exact:
        values = values.sum(0, keepdim=True)
        pairs = [(0, 0)]
    else:
        pairs = list(itertools.permutations(range(len(values)), 2))
    found = [
        values[c, k, j] * values[d, k, j]
        for c, d in pairs
        for k, j in itertools.permutations(range(values.shape[1]), 2)
    ]
    return sum(found) / len(found)


@pytest.mark.parametrize("is_exact", [False, True])
@pytest.mark.parametrize("num_probes", [2, 4])
def test_equals_the_mean_over_pairs(num_probes, is_exact):
    values = sketches(num_probes, 5)
    norm, _ = frobenius_estimate(values, is_exact=is_exact)
    assert_close(norm, square_loop(values, is_exact).clamp(min=0).sqrt())


def test_unbiased_square_for_a_known_operator():
    """OP = mean of OP_c with OP_c = K u_c u_c^T K^T; phi and u are signs."""
    k = torch.randn(6, 4, dtype=F64)
    expected = (k @ k.mT).norm().square()
    squares = []
    for _ in range(500):
        probes = torch.randint(0, 2, (4, 3)).double() * 2 - 1
        phi = torch.randint(0, 2, (6, 3)).double() * 2 - 1
        projected = phi.mT @ k @ probes  # (r, m)
        values = torch.einsum("rc,sc->crs", projected, projected)
        squares.append(square_loop(values, False))
    squares = torch.stack(squares)
    assert (squares.mean() - expected).abs() < 4 * squares.std() / 500**0.5


def test_nothing_is_known_from_too_few():
    norm, error = frobenius_estimate(sketches(1, 4), is_exact=False)
    assert norm.isnan()
    assert error.isnan()
    norm, error = frobenius_estimate(sketches(2, 4), is_exact=False)
    assert norm.isfinite()
    assert error.isnan()
    norm, error = frobenius_estimate(sketches(1, 4), is_exact=True)
    assert norm.isfinite()
    assert error.isfinite()


def test_zero_has_no_error():
    norm, error = frobenius_estimate(torch.zeros(3, 4, 4, dtype=F64), is_exact=False)
    assert (norm, error) == (0, 0)


def test_a_negative_square_reads_zero_with_a_finite_error():
    values = sketches(2, 4)
    norm, error = frobenius_estimate(torch.stack([*values, *-values]), is_exact=False)
    assert norm == 0
    assert error > 0
    assert error.isfinite()
