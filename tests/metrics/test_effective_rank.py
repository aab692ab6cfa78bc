import math
from collections.abc import Sequence
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from helpers.check_metric import Batch, check_metric, joined
from hypothesis import given, settings
from torch import Tensor
from torch.testing import assert_close

from lightning_ssl_theory.metrics import EffectiveRank, feature_effective_rank


def rank_by_svd(rows: np.ndarray) -> dict:
    """Singular values of the rows themselves, where the subject takes eigenvalues of sums."""
    centred = rows - rows.mean(0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2
    singular = np.linalg.svd(rows, compute_uv=False)
    shares = variances / variances.sum()
    entropy = -sum(p * math.log(p) for p in shares if p > 1e-20)
    directions = singular / singular.sum()
    std = np.sqrt((centred**2).mean(0))
    return {
        "effective_rank": math.exp(entropy),
        "rankme": math.exp(-sum(p * math.log(p + 1e-7) for p in directions)),
        "std": std,
        "min_std": std.min(),
        "mean_std": std.mean(),
        "dimension_alignment": np.abs(np.corrcoef(rows.T)[np.triu_indices(len(std), 1)]).mean(),
    }


def oracle(batches: Sequence[Batch]) -> dict:
    (features,) = joined(batches)
    return rank_by_svd(features.double().numpy())


def flat(rank: int, width: int) -> Tensor:
    """Rows +-e_k for k < rank."""
    unit = torch.eye(width, dtype=torch.float64)[:rank]
    return torch.cat([unit, -unit])


def test_oracle_by_hand() -> None:
    # Rows (+-3, 0) and (0, +-1): variances 9 to 1, singular values 3 to 1.
    result = rank_by_svd(np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    assert result["effective_rank"] == pytest.approx(0.9**-0.9 * 0.1**-0.1)
    assert result["rankme"] == pytest.approx(0.75**-0.75 * 0.25**-0.25, abs=1e-5)
    assert result["std"] == pytest.approx([math.sqrt(4.5), math.sqrt(0.5)])


@pytest.mark.parametrize(
    ("sizes", "width"),
    [pytest.param((9, 22), 5, id="tall"), pytest.param((3, 4, 2), 12, id="wide")],
)
def test_metric(sizes: tuple[int, ...], width: int) -> None:
    features = torch.randn(sum(sizes), width, dtype=torch.float64) * torch.linspace(0.5, 2, width) + 1
    check_metric(partial(EffectiveRank, width), [(part,) for part in features.split(list(sizes))], oracle)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567])
def test_constant_features_read_one(value: float, dtype: torch.dtype) -> None:
    metric = EffectiveRank(64)
    for _ in range(30):
        metric.update(torch.full((33, 64), value, dtype=dtype) + 0.37 * torch.arange(64))
    result = metric.compute()
    assert float(result.effective_rank) == 1.0
    assert float(result.rankme) == pytest.approx(1.0, abs=1e-5)
    assert result.std.abs().max() == 0


def test_one_direction_reads_one() -> None:
    features = torch.randn(50, 1, dtype=torch.float64) * torch.randn(64, dtype=torch.float64)
    result = feature_effective_rank(features)
    assert float(result.effective_rank) == pytest.approx(1.0, abs=1e-6)
    assert float(result.rankme) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_rank_reads_itself_under_both_names(dtype: torch.dtype) -> None:
    features = flat(100, 128)
    rotation = torch.linalg.qr(torch.randn(128, 128, dtype=torch.float64)).Q
    for rows in (features, features @ rotation):
        result = feature_effective_rank(rows.to(dtype))
        assert f"{float(result.effective_rank):.2f}" == "100.00"
        assert f"{float(result.rankme):.2f}" == "100.00"


def test_only_the_centred_rank_ignores_an_offset() -> None:
    result = feature_effective_rank(flat(100, 128) + 30)
    assert float(result.effective_rank) == pytest.approx(100.0, abs=5e-3)
    assert float(result.rankme) < 90


def test_a_single_sample_reads_one() -> None:
    result = feature_effective_rank(torch.randn(1, 8))
    assert float(result.effective_rank) == 1.0
    assert float(result.rankme) == pytest.approx(1.0, abs=1e-5)
    assert result.std.tolist() == [0.0] * 8


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), num_samples=st.integers(2, 20), width=st.integers(2, 8))
def test_bounds_and_invariance(seed: int, num_samples: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_samples, width, generator=generator, dtype=torch.float64)
    result = feature_effective_rank(features)
    assert 1 - 1e-9 <= result.effective_rank <= min(num_samples - 1, width) + 1e-9
    assert 1 - 1e-5 <= result.rankme <= min(num_samples, width) + 1e-5
    rotation = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    moved = feature_effective_rank(3 * features @ rotation)
    assert_close(moved[:2], result[:2], rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_rejects_bad_batches() -> None:
    metric = EffectiveRank(2)
    with pytest.raises(ValueError, match="Expected at least one sample, got none"):
        metric.compute()
    with pytest.raises(ValueError, match=r"Expected `features` of shape \(N, 2\), got \(2,\)"):
        metric.update(torch.zeros(2))
    with pytest.raises(ValueError, match="Expected finite `features`, got 1 of 2"):
        metric.update(torch.tensor([[0.0, math.inf]]))
    with pytest.raises(ValueError, match="`num_features` to be a positive integer, got -1"):
        EffectiveRank(-1)
