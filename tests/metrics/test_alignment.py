import math
from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
import torch
from helpers.check_metric import Batch, check_metric, joined
from hypothesis import given, settings

from lightning_ssl_theory.metrics import Alignment, alignment


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def alignment_loop(first: list[list[float]], second: list[list[float]]) -> float:
    distances = [
        sum((x - y) ** 2 for x, y in zip(unit(a), unit(b), strict=True))
        for a, b in zip(first, second, strict=True)
    ]
    return sum(distances) / len(distances)


def oracle(batches: Sequence[Batch]) -> dict:
    first, second = joined(batches)
    return {"value": alignment_loop(first.tolist(), second.tolist())}


def test_oracle_by_hand() -> None:
    assert alignment_loop([[2.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [0.0, 5.0]]) == 1.0


def test_metric() -> None:
    z1, z2 = torch.randn(2, 12, 5, dtype=torch.float64)
    check_metric(Alignment, [(z1[:3], z2[:3]), (z1[3:], z2[3:])], oracle)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3))
def test_bounds_scale_and_symmetry(seed: int, scale: float) -> None:
    z1, z2 = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    value = alignment(z1, z2)
    assert 0 <= value <= 4
    assert float(alignment(scale * z2, z1)) == pytest.approx(float(value), rel=1e-12)


def test_extremes() -> None:
    z = torch.randn(5, 3)
    assert float(alignment(z, z)) == 0
    assert float(alignment(z, -z)) == pytest.approx(4.0)
    assert float(alignment(torch.zeros(1, 3), z[:1])) == pytest.approx(1.0)


def test_a_large_mean_in_float32() -> None:
    z1, z2 = 1000 + torch.randn(2, 40, 6)
    assert float(alignment(z1, z2)) == pytest.approx(alignment_loop(z1.tolist(), z2.tolist()), rel=1e-9)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_rejects_bad_batches() -> None:
    metric = Alignment()
    with pytest.raises(ValueError, match="Expected at least one sample, got none"):
        metric.compute()
    with pytest.raises(ValueError, match=r"Expected `z2` of shape \(3, 2\), got \(2, 2\)"):
        metric.update(torch.zeros(3, 2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"Expected `z1` of shape \(N, D\), got \(2,\)"):
        metric.update(torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match="Expected finite `z2`"):
        metric.update(torch.zeros(1, 1), torch.full((1, 1), math.nan))
    with pytest.raises(ValueError, match="Expected finite `z1`"):
        metric.update(torch.full((1, 1), math.nan), torch.zeros(1, 1))
