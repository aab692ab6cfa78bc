import math
from collections.abc import Sequence
from itertools import combinations

import pytest
import torch
from helpers.check_metric import Batch, check_metric
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from lightning_ssl_theory.metrics import Uniformity, uniformity


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def uniformity_loop(batches: Sequence[list[list[float]]]) -> float:
    potentials = []
    for rows in batches:
        points = [unit(row) for row in rows]
        for i, a in enumerate(points):
            for j, b in enumerate(points):
                if i != j:
                    potentials.append(math.exp(-2 * sum((x - y) ** 2 for x, y in zip(a, b, strict=True))))
    return math.log(sum(potentials) / len(potentials))


def oracle(batches: Sequence[Batch]) -> dict:
    return {"value": uniformity_loop([features.tolist() for (features,) in batches])}


def test_oracle_by_hand() -> None:
    assert uniformity_loop([[[2.0, 0.0], [0.0, 1.0]]]) == pytest.approx(-4.0)


def test_metric() -> None:
    features = torch.randn(13, 5, dtype=torch.float64)
    check_metric(Uniformity, [(part,) for part in features.split([3, 8, 2])], oracle, is_additive=False)


def test_pairs_between_batches_are_not_formed() -> None:
    features = torch.randn(8, 3, dtype=torch.float64)
    metric = Uniformity()
    metric.update(features[:5])
    metric.update(features[5:])
    assert metric.num_pairs == 10 + 3
    assert abs(metric.compute() - uniformity(features)) > 1e-3


def test_mean_potential_over_all_batches_is_that_of_the_whole() -> None:
    # Every pair shares equally many of the 20 batches of 3 out of 6.
    features = torch.randn(6, 3, dtype=torch.float64)
    potentials = [uniformity(features[list(batch)]).exp() for batch in combinations(range(6), 3)]
    assert_close(torch.stack(potentials).mean(), uniformity(features).exp(), rtol=1e-12, atol=0)


def test_extremes() -> None:
    same = torch.randn(3).expand(5, 3)
    assert float(uniformity(same)) == 0
    assert float(uniformity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))) == pytest.approx(-8.0)
    spread = uniformity(torch.randn(200, 500))
    assert_close(spread, torch.tensor(-4.0, dtype=torch.float64), rtol=0, atol=0.05)


@pytest.mark.parametrize("block_size", [1, 30, 47])
def test_blocks_cover_every_pair_once(monkeypatch: pytest.MonkeyPatch, block_size: int) -> None:
    monkeypatch.setattr("lightning_ssl_theory.row_blocks.BLOCK_SIZE", block_size)
    features = torch.randn(11, 3, dtype=torch.float64)
    assert float(uniformity(features)) == pytest.approx(uniformity_loop([features.tolist()]), rel=1e-12)


def test_a_large_mean_in_float32() -> None:
    features = 1000 + torch.randn(40, 6)
    # A distance of 1e-6 is known to 1e-10, and so is the logarithm of what lies so close to 1.
    assert float(uniformity(features)) == pytest.approx(uniformity_loop([features.tolist()]), rel=1e-9)


def test_memory_is_that_of_a_block() -> None:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        uniformity(torch.randn(5000, 3))
    largest = max(event.cpu_memory_usage for event in measured.events())
    assert largest <= 8 * 2**22 < 8 * 5000**2 / 2


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_rejects_bad_batches() -> None:
    metric = Uniformity()
    metric.update(torch.ones(1, 3))
    with pytest.raises(ValueError, match="at least one pair of samples, got none; update with batches"):
        metric.compute()
    with pytest.raises(ValueError, match=r"Expected `features` of shape \(N, D\), got \(3,\)"):
        metric.update(torch.ones(3))
    with pytest.raises(ValueError, match="Expected finite `features`"):
        metric.update(torch.full((2, 2), math.nan))
