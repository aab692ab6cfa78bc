"""C from data by loops and as the trace loss has it; its eigenbasis."""

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.flows import eigenbasis, trace_matrix
from lightning_ssl_theory.losses import TraceLoss


def draws(num_samples=5, num_features=3):
    return [torch.randn(num_samples, num_features, dtype=torch.float64) for _ in range(3)]


def loop(x, positives, negatives):
    n, d = x.shape
    c = torch.zeros(d, d, dtype=torch.float64)
    for i in range(n):
        for a in range(d):
            for b in range(d):
                difference = [
                    -positives[i, k] + (0 if negatives is None else negatives[i, k]) for k in (a, b)
                ]
                c[a, b] += (difference[0] * x[i, b] + difference[1] * x[i, a]) / (2 * n)
    return c


def test_oracle_by_hand():
    x, p, m = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    # (x^- - x^+) x^T = [-3, 1]^T [1, 2] = [[-3, -6], [1, 2]]
    assert loop(x, p, m).tolist() == [[-3.0, -2.5], [-2.5, 2.0]]


def test_by_loop_and_as_the_loss_has_it():
    x, p, m = draws()
    weight = torch.randn(2, 3, dtype=torch.float64)
    for negatives in (m, None):
        found = trace_matrix(x, p, negatives)
        assert_close(found, loop(x, p, negatives))
        loss = TraceLoss(contrastive=negatives is not None)
        outputs = [v @ weight.mT for v in (x, p, *([] if negatives is None else [negatives]))]
        assert_close((weight @ found @ weight.mT).trace(), loss(*outputs), rtol=0, atol=1e-12)


def test_images_are_flattened_and_the_result_is_float64():
    x, p, _ = draws(4, 6)
    found = trace_matrix(x.float().view(4, 1, 2, 3), p.float().view(4, 1, 2, 3))
    assert found.dtype == torch.float64
    assert_close(found, trace_matrix(x, p), rtol=0, atol=1e-6)


def test_eigenbasis():
    matrix = trace_matrix(*draws())
    values, vectors = eigenbasis(matrix.float())
    assert (values.diff() >= 0).all()
    assert_close(vectors @ values.diag() @ vectors.mT, matrix, rtol=0, atol=1e-6)
    assert_close(vectors.mT @ vectors, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-14)


def test_rejects_data():
    x, p, m = draws()
    for bad in ((torch.zeros(5, 3), p, m), (x, torch.zeros(5, 3), None), (x, x * 0, x * 0)):
        with pytest.raises(
            ValueError, match="Expected data that are not all zero, got zeros only; C would be zero"
        ):
            trace_matrix(*bad)
    with pytest.raises(
        ValueError, match=r"`negatives` of the shape \(5, 3\) of `x`, not empty, got \(4, 3\)"
    ):
        trace_matrix(x, p, m[:4])
    with pytest.raises(ValueError, match=r"`x` of the shape \(0, 3\) of `x`, not empty, got \(0, 3\)"):
        trace_matrix(x[:0], p[:0])
    with pytest.raises(ValueError, match="Expected finite `positives`, got 15 of 15"):
        trace_matrix(x, p * torch.nan)
    with pytest.raises(TypeError, match=r"`positives` to be a torch\.Tensor, got list"):
        trace_matrix(x, p.tolist())


def test_rejects_a_matrix_that_is_not_symmetric():
    with pytest.raises(
        ValueError, match=r"got max \|C - C\^T\| = 0\.5 beside max \|C\| = 2; pass \(C \+ C\^T\) / 2"
    ):
        eigenbasis(torch.tensor([[2.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"`matrix` of shape \(d, d\), got \(2, 3\)"):
        eigenbasis(torch.ones(2, 3))
    with pytest.raises(ValueError, match="Expected finite `matrix`"):
        eigenbasis(torch.eye(2) / 0)
