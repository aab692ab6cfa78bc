import math

import pytest
import torch

from lightning_ssl_theory.probes import top_k_correct


def top_k_loop(scores: list[list[float]], labels: list[int], k: int) -> list[bool]:
    return [
        label in sorted(range(len(row)), key=lambda c, row=row: (-row[c], c))[:k]
        for row, label in zip(scores, labels, strict=True)
    ]


def test_oracle_by_hand() -> None:
    assert top_k_loop([[0.1, 0.9, 0.5]], [2], 1) == [False]
    assert top_k_loop([[0.1, 0.9, 0.5]], [2], 2) == [True]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_matches_sorting(k: int) -> None:
    scores, targets = torch.randn(200, 5).mul(2).round(), torch.randint(5, (200,))  # rounded: many ties
    assert top_k_correct(scores, targets, k).tolist() == top_k_loop(scores.tolist(), targets.tolist(), k)


def test_constant_scores_are_right_for_k_classes_only() -> None:
    assert top_k_correct(torch.zeros(4, 4), torch.arange(4), 2).tolist() == [True, True, False, False]


def test_absent_classes() -> None:
    scores = torch.tensor([[0.3, -math.inf, 0.7]])
    assert top_k_correct(scores, torch.tensor([2]), 1).item()
    assert not top_k_correct(scores, torch.tensor([1]), 2).item()


def test_no_rows() -> None:
    assert top_k_correct(torch.zeros(0, 3), torch.zeros(0).long()).shape == (0,)


def test_rejects_bad_input() -> None:
    scores, targets = torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="Expected `k` of at most 3, got 4"):
        top_k_correct(scores, targets, 4)
    with pytest.raises(ValueError, match="Expected `k` of at least 1, got 0"):
        top_k_correct(scores, targets, 0)
    with pytest.raises(ValueError, match="Expected `scores` without NaN, got some"):
        top_k_correct(torch.full((2, 3), math.nan), targets)
    with pytest.raises(ValueError, match=r"Expected `scores` of shape \(N, C\), got \(3,\)"):
        top_k_correct(scores[0], targets)
    with pytest.raises(ValueError, match=r"Expected `targets` of shape \(2,\), got \(1,\)"):
        top_k_correct(scores, targets[:1])
