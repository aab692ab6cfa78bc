import math

import pytest
import torch

from lightning_ssl_theory.losses import NegativeCosineLoss


def loop(predictions, targets):
    """-cos, sample by sample, from its definition."""
    values = []
    for p, t in zip(predictions.tolist(), targets.tolist(), strict=True):
        dot = sum(a * b for a, b in zip(p, t, strict=True))
        values.append(-dot / math.sqrt(sum(a * a for a in p) * sum(b * b for b in t)))
    return sum(values) / len(values)


def rows(seed=0, dtype=torch.float64):
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def gradients(value, *leaves):
    return torch.autograd.grad(value, leaves)


def test_oracle_by_hand():
    assert (
        loop(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.0, 2.0]])) == -24 / 25 / 2
    )


def test_value_and_gradient():
    p, t = rows(), rows(1)
    assert NegativeCosineLoss()(p, t).item() == pytest.approx(loop(p, t), abs=1e-14)
    assert torch.autograd.gradcheck(NegativeCosineLoss(), (p, t))
    longer = NegativeCosineLoss()(3 * p, 0.2 * t)
    torch.testing.assert_close(longer, NegativeCosineLoss()(p, t))
    byol = (torch.nn.functional.normalize(p) - torch.nn.functional.normalize(t)).square().sum(1).mean()
    torch.testing.assert_close(2 + 2 * NegativeCosineLoss()(p, t), byol)


def test_equals_lightly():
    lightly = pytest.importorskip("lightly.loss").NegativeCosineSimilarity()
    p, t = rows(dtype=torch.float32), rows(1, dtype=torch.float32)
    ours, theirs = NegativeCosineLoss()(p, t), lightly(p, t)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients(ours, p, t), gradients(theirs, p, t), rtol=1e-5, atol=1e-6)


def test_zero_rows_and_half_precision():
    p = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    value = NegativeCosineLoss()(p, torch.tensor([[0.0, 2.0], [5.0, 0.0]]))
    assert value.item() == -0.5
    (gradient,) = gradients(value, p)
    assert gradient.tolist() == [[0.0, -0.5], [0.0, 0.0]]
    half = [one.detach().bfloat16() for one in (rows(), rows(1))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = NegativeCosineLoss()(*half)
    assert value.dtype == torch.float32
    assert torch.equal(value, NegativeCosineLoss()(*(one.float() for one in half)))


@pytest.mark.parametrize(
    ("predictions", "targets", "message"),
    [
        (torch.zeros(3), torch.zeros(3), r"Expected `predictions` of shape \(N, E\), got \(3,\)"),
        (
            torch.zeros(3, 2),
            torch.zeros(3, 1),
            r"Expected `predictions` and `targets` of one shape, got \(3, 2\)",
        ),
        (torch.zeros(0, 2), torch.zeros(0, 2), "Expected `predictions` of a sample on some rank, got none"),
    ],
)
def test_rejects(predictions, targets, message):
    with pytest.raises(ValueError, match=message):
        NegativeCosineLoss()(predictions, targets)
