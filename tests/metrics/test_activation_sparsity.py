import math
from collections.abc import Sequence
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from helpers.check_metric import Batch, check_metric, joined
from hypothesis import given, settings
from torch.testing import assert_close

from lightning_ssl_theory.metrics import ActivationSparsity, activation_sparsity


def sparsity_loop(rows: list[list[float]]) -> dict:
    n, width = len(rows), len(rows[0])
    rates, hoyer = [], []
    for j in range(width):
        column = [row[j] for row in rows]
        rates.append(sum(x != 0 for x in column) / n)
        l1, l2 = sum(abs(x) for x in column), math.sqrt(sum(x * x for x in column))
        hoyer.append((math.sqrt(n) - l1 / l2) / (math.sqrt(n) - 1) if l2 else math.nan)
    alive = [h for h in hoyer if not math.isnan(h)]
    return {
        "firing_rate": sum(rates) / width,
        "hoyer": sum(alive) / len(alive) if alive else math.nan,
        "dead_share": sum(rate == 0 for rate in rates) / width,
        "firing_rates": rates,
        "hoyer_values": hoyer,
    }


def oracle(batches: Sequence[Batch]) -> dict:
    (features,) = joined(batches)
    return sparsity_loop(features.tolist())


def test_oracle_by_hand() -> None:
    # n = 4; l1 = 7, l2 = 5: (2 - 1.4) / (2 - 1).
    result = sparsity_loop([[3.0, 0.0], [-4.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert result["hoyer_values"][0] == pytest.approx(0.6)
    assert (result["firing_rates"], result["dead_share"]) == ([0.5, 0.0], 0.5)


@pytest.mark.parametrize("sizes", [(3, 8), (2, 2, 9)])
def test_metric(sizes: tuple[int, ...]) -> None:
    features = torch.randn(sum(sizes), 4, dtype=torch.float64).relu()
    features[:, 2] = 0
    check_metric(partial(ActivationSparsity, 4), [(part,) for part in features.split(list(sizes))], oracle)


def test_extremes() -> None:
    one_size = torch.tensor([1.0, -1.0]).repeat(50)
    single = torch.eye(100)[:, 0] * 7
    values = activation_sparsity(torch.stack([0.1 * one_size, single, torch.zeros(100)], 1))
    assert_close(values.hoyer_values[:2], torch.tensor([0.0, 1.0]).double(), rtol=0, atol=1e-12)
    assert values.hoyer_values[2].isnan()
    assert values.firing_rates.tolist() == [1.0, 0.01, 0.0]
    assert float(values.hoyer) == pytest.approx(0.5)


def test_no_neuron_fires() -> None:
    values = activation_sparsity(torch.zeros(3, 2))
    assert values.hoyer.isnan()
    assert values.dead_share == 1


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), num_samples=st.integers(2, 40), scale=st.floats(1e-6, 1e6))
def test_bounds_scale_and_order(seed: int, num_samples: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_samples, 3, generator=generator, dtype=torch.float64).relu()
    values = activation_sparsity(features)
    alive = values.hoyer_values[~values.hoyer_values.isnan()]
    assert ((alive >= 0) & (alive <= 1)).all()
    order = torch.randperm(num_samples, generator=generator)
    assert_close(activation_sparsity(scale * features[order]), values, rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_rejects_bad_batches() -> None:
    metric = ActivationSparsity(2)
    with pytest.raises(ValueError, match="Expected at least one sample, got none"):
        metric.compute()
    with pytest.raises(ValueError, match=r"Expected `features` of shape \(N, 2\), got \(3, 2, 1\)"):
        metric.update(torch.zeros(3, 2, 1))
    with pytest.raises(ValueError, match="Expected finite `features`"):
        metric.update(torch.full((3, 2), math.nan))
    with pytest.raises(ValueError, match="Expected at least 2 samples, got 1; sparsity"):
        activation_sparsity(torch.ones(1, 2))
    with pytest.raises(ValueError, match="`num_features` to be an integer, got True"):
        ActivationSparsity(True)
