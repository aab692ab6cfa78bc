import math
from collections.abc import Sequence
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from helpers.check_metric import Batch, check_metric, joined
from helpers.ddp import run_ranks
from hypothesis import given, settings
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from lightning_ssl_theory.distributed import all_sum
from lightning_ssl_theory.metrics import EffectiveRank, feature_effective_rank
from lightning_ssl_theory.metrics.sum_metric import sum_together


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


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_samples=st.integers(1, 11),
    offset=st.sampled_from([0.0, 1.0, -1e3, 1e6]),
)
def test_rows_and_sums_say_the_same(seed: int, num_samples: int, offset: float) -> None:
    # Every sample twelve times over: the same moments, by D x D sums.
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_samples, 12, generator=generator, dtype=torch.float64) + offset
    rows, sums = EffectiveRank(12), EffectiveRank(12)
    rows.update(features)
    for _ in range(12):
        sums.update(features)
    assert not rows.scatters
    assert sums.scatters
    found, expected = rows.compute(), sums.compute()
    if offset == 1e6:  # RankMe takes variances of 1 beside squares of 1e13 for rounding
        found, expected = found._replace(rankme=None), expected._replace(rankme=None)
    assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("num_samples", [100, 400], ids=["rows", "sums"])
def test_a_large_mean_hides_no_direction(num_samples: int) -> None:
    # The mean's second moment is 200 x 1e6; 400 eps of it was taken for rounding, which is 2e-5.
    features = 1e3 + 1e-3 * torch.randn(num_samples, 200, dtype=torch.float64)
    features[:, 0] = 1e3 + torch.randn(num_samples, dtype=torch.float64)
    expected = rank_by_svd(features.numpy())
    result = feature_effective_rank(features)
    for key in ("effective_rank", "std", "min_std", "dimension_alignment"):
        wanted = torch.as_tensor(expected[key], dtype=torch.float64)
        assert_close(getattr(result, key), wanted, rtol=1e-9, atol=0, msg=key)


def test_memory_is_of_the_smaller_side() -> None:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        metric = EffectiveRank(3000)
        for part in torch.randn(60, 3000).split(20):
            metric.update(part)
        metric.compute()
    largest = max(event.cpu_memory_usage for event in measured.events())
    assert sum(part.numel() for part in metric.means) == 60 * 3000
    assert largest < 8 * 3000**2


def test_batches_that_pass_the_width_midway_and_reset() -> None:
    features = torch.randn(30, 12, dtype=torch.float64) + 2
    metric = EffectiveRank(12)
    for _ in range(2):
        seen = 0
        for size in (5, 6, 0, 1, 14, 4):
            metric.update(features[seen : seen + size])
            seen += size
            assert bool(metric.scatters) == (seen >= 12)
            expected = rank_by_svd(features[:seen].numpy())["effective_rank"]
            assert float(metric.compute().effective_rank) == pytest.approx(expected, rel=1e-9)
        metric.reset()
        assert not metric.means
        assert not metric.scatters


@pytest.mark.parametrize("num_samples", [5, 30], ids=["rows", "sums"])
def test_state_is_saved_loaded_and_the_metrics_own(num_samples: int) -> None:
    features = torch.randn(num_samples, 12, dtype=torch.float64)
    saved, loaded = EffectiveRank(12), EffectiveRank(12)
    for metric in (saved, loaded):
        metric.persistent(True)
    mine = features[:3].clone()
    saved.update(mine)
    mine.zero_()
    loaded.load_state_dict(saved.state_dict())
    for metric in (saved, loaded):
        metric.update(features[3:])
        assert_close(metric.compute(), feature_effective_rank(features), rtol=1e-9, atol=1e-12)


def test_a_bad_batch_changes_nothing() -> None:
    features = torch.randn(5, 12)
    metric = EffectiveRank(12)
    metric.update(features)
    expected = metric.compute()
    bad = features.clone()
    bad[2, 3] = math.nan
    with pytest.raises(ValueError, match="Expected finite `features`, got 1 of 60 values NaN or infinite"):
        metric.update(bad)
    assert_close(metric.compute(), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("num_samples", "width"), [(1, 1), (2, 1), (1, 2), (2, 2), (2, 5)])
def test_edges(num_samples: int, width: int) -> None:
    features = torch.randn(num_samples, width, dtype=torch.float64)
    result = feature_effective_rank(features)
    assert float(result.effective_rank) == pytest.approx(1.0, abs=1e-12)
    assert_close(result.std, features.std(0, correction=0))
    assert result.std.shape == (width,)
    assert float(result.dimension_alignment) == pytest.approx(1.0, abs=1e-12)
    assert 1 - 1e-6 <= float(result.rankme) <= min(num_samples, width) + 1e-6


def _ranks(
    rank: int, world_size: int, shards: list[list[Tensor]]
) -> tuple[dict, dict, dict | None, dict, list[int]]:
    """By one buffer, together, alone if anything is there, and together again after one more batch on rank 0."""
    metric, alone, one_buffer = EffectiveRank(12), EffectiveRank(12, sync_on_compute=False), EffectiveRank(12)
    for part in shards[rank]:
        for each in (metric, alone, one_buffer):
            each.update(part)
    sum_together([one_buffer, EffectiveRank(3)], all_sum)  # of another width, and without a row anywhere
    together = metric.compute()._asdict()
    kept = [len(part) for part in metric.means]
    if rank == 0:
        metric.update(torch.eye(12))
    metric._computed = None  # torchmetrics keeps the value of a rank without a new batch
    again = metric.compute()._asdict()
    alone_values = alone.compute()._asdict() if shards[rank] else None
    return one_buffer.compute()._asdict(), together, alone_values, again, kept


@pytest.mark.ddp
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([[2], [4, 1]], id="rows"),
        pytest.param([[4, 3], [5]], id="width passed together"),
        pytest.param([[3], [9, 9]], id="width passed by one rank"),
        pytest.param([[], [5]], id="rows and a rank without a batch"),
        pytest.param([[7, 8], []], id="sums and a rank without a batch"),
        pytest.param([[13], [2], [14]], id="three ranks"),
    ],
)
def test_ranks_choose_together(sizes: list[list[int]]) -> None:
    flat_sizes = [size for own in sizes for size in own]
    features = torch.randn(sum(flat_sizes), 12, dtype=torch.float64) + torch.arange(12)
    parts = iter(features.split(flat_sizes))
    shards = [[next(parts) for _ in own] for own in sizes]
    expected = feature_effective_rank(features)._asdict()
    after = feature_effective_rank(torch.cat([features, torch.eye(12)]))._asdict()
    results = run_ranks(_ranks, len(sizes), shards)
    for own, (one_buffer, together, alone, again, kept) in zip(sizes, results, strict=True):
        assert_close(one_buffer, expected, rtol=1e-9, atol=1e-12)
        assert_close(together, expected, rtol=1e-9, atol=1e-12)
        assert_close(again, after, rtol=1e-9, atol=1e-12)
        assert kept == (own if sum(own) < 12 else [1]), "the rank's own state is back after the look"
        if alone is not None and len(flat_sizes) > 1 and own != flat_sizes:
            assert not torch.allclose(alone["effective_rank"], expected["effective_rank"])


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_rejects_bad_batches() -> None:
    metric = EffectiveRank(2)
    with pytest.raises(ValueError, match="Expected at least one sample, got none"):
        metric.compute()
    with pytest.raises(ValueError, match=r"Expected `features` of shape \(N, 2\), got \(2,\)"):
        metric.update(torch.zeros(2))
    with pytest.raises(ValueError, match="Expected finite `features`, got 1 of 2"):
        metric.update(torch.tensor([[0.0, math.inf]]))
    with pytest.raises(ValueError, match="`num_features` of at least 1, got -1"):
        EffectiveRank(-1)
