"""Outputs that differ by a thousandth of themselves: float32 looks of 1, 2 and 3 ranks agree, and with float64."""

import pytest
import torch
from helpers.ddp import run_ranks
from torch import nn

from lightning_ssl_theory.distributed import all_sum
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.metrics import Alignment, EffectiveRank
from lightning_ssl_theory.metrics.sum_metric import sum_together
from lightning_ssl_theory.operators import covariance_scalars

SHARDS = {1: [24], 2: [17, 7], 3: [5, 12, 7]}
TOLERANCE = 1e-5
SEEDS = range(3)


def network(kind, seed):
    """Two layers and two views of 24 samples; all samples look alike from the start, or the outputs do."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    if kind == "inputs":
        return module, 1 + 1e-3 * torch.randn(24, 2, 6)
    with torch.no_grad():
        module[2].weight.mul_(1e-3)
        module[2].bias.fill_(1.0)
    return module, torch.randn(24, 1, 6) + 0.3 * torch.randn(24, 2, 6)


def scalars(module, views):
    """Each with the scale that it is compared on: its own, 1 for shares and cosines, its quantity's for errors."""
    found = covariance_scalars(
        module,
        views,
        num_probes=4,
        loss=InfoNCELoss(),
        generator=torch.Generator().manual_seed(0),
        all_sum=all_sum,
    )
    assert not found.left_out
    values = {}
    for name, layer in found.items():
        for key, value in layer._asdict().items():
            own = abs(float(getattr(layer, key.removesuffix("_error95"))))
            values[name, key] = (float(value), 1.0 if key in ("residual", "cosine", "signal_ratio") else own)
    return values


def metrics(rows):
    metric = {"rank": EffectiveRank(4), "alignment": Alignment()}
    metric["rank"].update(rows[:, 0])
    metric["alignment"].update(rows[:, 0], rows[:, 1])
    sum_together([metric["rank"], metric["alignment"]], all_sum)
    rank = metric["rank"].compute()
    found = {
        key: float(getattr(rank, key))
        for key in ("effective_rank", "rankme", "min_std", "dimension_alignment")
    }
    found["alignment"] = float(metric["alignment"].compute())
    return {key: (value, value) for key, value in found.items()}


def looks(rank, world_size, dtype=torch.float32):
    found = {}
    for seed in SEEDS:
        for kind in ("inputs", "outputs"):
            module, views = network(kind, seed)
            own = views.split(SHARDS[world_size])[rank].to(dtype)
            found |= {(seed, kind, *key): value for key, value in scalars(module, own).items()}
        rows = 1 + 1e-3 * torch.randn(24, 2, 4, generator=torch.Generator().manual_seed(seed))
        found |= {(seed, key): value for key, value in metrics(rows.split(SHARDS[world_size])[rank]).items()}
    return found


def differences(found, expected):
    return {key: abs(value - expected[key][0]) / expected[key][1] for key, (value, _) in found.items()}


def test_float32_looks_agree_with_float64():
    found = differences(looks(0, 1), looks(0, 1, torch.float64))
    assert max(found.values()) < TOLERANCE, max(found, key=found.get)


@pytest.mark.ddp
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_agree(world_size):
    expected = looks(0, 1)
    for own in run_ranks(looks, world_size):
        found = differences(own, expected)
        assert max(found.values()) < TOLERANCE, max(found, key=found.get)
