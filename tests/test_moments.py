import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.testing import assert_close

from lightning_ssl_theory import operators
from lightning_ssl_theory.moments import (
    check_any_sample,
    class_sums,
    device_with_float64,
    effective_rank,
    to_float64,
    variance_from_sums,
)


def variance_of(column: torch.Tensor) -> float:
    exact = to_float64(column)[:, None]
    return float(variance_from_sums(torch.tensor(len(exact)), exact.sum(0), exact.square().sum(0)))


def variance_loop(column: list[float]) -> float:
    mean = math.fsum(column) / len(column)
    return math.fsum((x - mean) ** 2 for x in column) / len(column)


def test_oracle_by_hand() -> None:
    assert variance_loop([1.0, 3.0]) == 1.0


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), offset=st.sampled_from([0.0, 1.0, -1e3, 1e5]), n=st.integers(2, 300))
def test_error_is_that_of_the_docstring(seed: int, offset: float, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    column = torch.randn(n, generator=generator) + offset
    expected = variance_loop(column.tolist())
    bound = n * torch.finfo(torch.float64).eps * (offset**2 + expected)
    assert abs(variance_of(column) - expected) <= bound + 1e-12 * expected


@settings(deadline=None, max_examples=40)
@given(value=st.floats(-1e6, 1e6, width=32), n=st.integers(1, 5000))
def test_constants_have_none(value: float, n: int) -> None:
    assert variance_of(torch.full((n,), value)) == 0


def test_devices_and_dtypes() -> None:
    assert device_with_float64(torch.device("mps")) == torch.device("cpu")
    assert device_with_float64(torch.device("cuda", 1)) == torch.device("cuda", 1)
    half = torch.tensor([0.1], dtype=torch.bfloat16, requires_grad=True)
    assert to_float64(half).tolist() == half.tolist()
    assert not to_float64(half).requires_grad
    assert to_float64(torch.tensor([True, False])).tolist() == [1.0, 0.0]


def test_rejects_no_samples() -> None:
    with pytest.raises(
        ValueError, match="Expected at least one sample, got none; call `update` with features"
    ):
        check_any_sample(torch.tensor(0))


def test_effective_rank_by_hand() -> None:
    # shares 1/2, 1/4, 1/4: the entropy is 3/2 log 2
    assert float(effective_rank(torch.tensor([2.0, 1.0, 1.0]))) == pytest.approx(2**1.5)
    assert float(effective_rank(torch.tensor([4.0, -1.0, 0.0]))) == 1.0
    assert float(effective_rank(torch.zeros(3))) == 1.0


def test_effective_rank_is_one_function() -> None:
    assert operators.effective_rank is effective_rank


def test_class_sums_match_a_loop() -> None:
    features, targets = torch.randn(20, 3, dtype=torch.float64), torch.randint(4, (20,), dtype=torch.int32)
    counts, sums = class_sums(features, targets, 5)
    for k in range(5):
        rows = [row for row, label in zip(features, targets.tolist(), strict=True) if label == k]
        assert counts[k] == len(rows)
        assert_close(sums[k], sum(rows, torch.zeros(3, dtype=torch.float64)))


def test_class_sums_of_no_rows() -> None:
    counts, sums = class_sums(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 2)
    assert counts.tolist() == [0.0, 0.0]
    assert sums.tolist() == [[0.0] * 3] * 2
