"""Cross-entropy and squares against loops."""

import math

import pytest
import torch

from lightning_ssl_theory.losses import PredictionLoss


def test_by_loops():
    scores, numbers, classes = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    entropy = sum(
        math.log(sum(math.exp(value) for value in row)) - row[index]
        for row, index in zip(scores.tolist(), classes.tolist(), strict=True)
    )
    assert PredictionLoss()(scores, classes).item() == pytest.approx(entropy / 5, rel=1e-5)
    squares = sum(
        (a - b) ** 2 for a, b in zip(scores.flatten().tolist(), numbers.flatten().tolist(), strict=True)
    )
    assert PredictionLoss()(scores, numbers).item() == pytest.approx(squares / 10, rel=1e-5)


def test_half_precision_is_computed_in_float32():
    scores = torch.full((1000, 8), 10.0, dtype=torch.float16)
    found = PredictionLoss()(scores, torch.zeros(1000, 8, dtype=torch.float16))
    assert (found.dtype, found.item()) == (torch.float32, 400.0)


def test_sentences():
    scores = torch.randn(5, 3)
    with pytest.raises(ValueError, match=r"Expected `targets` in 0\.\.2, got 0 to 3"):
        PredictionLoss()(scores, torch.tensor([0, 3, 1, 1, 0]))
    with pytest.raises(ValueError, match=r"Expected `targets` of shape \(5, 3\), got \(5, 2\)"):
        PredictionLoss()(scores, torch.zeros(5, 2))
    with pytest.raises(ValueError, match="Expected `predictions` of a sample on some rank, got none"):
        PredictionLoss()(scores[:0], torch.zeros(0, 3))
