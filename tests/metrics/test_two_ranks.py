from functools import partial

import pytest
import torch
from helpers.check_metric import check_two_ranks

from lightning_ssl_theory.metrics import (
    ActivationSparsity,
    Alignment,
    EffectiveRank,
    FeatureNorms,
    Selectivity,
    Uniformity,
)


@pytest.mark.ddp
def test_uneven_ranks_equal_one_process() -> None:
    features = torch.randn(14, 4)
    shards = list(features.split([5, 9]))
    targets = torch.cat([torch.tensor([0, 1, 0, 1, 0]), torch.arange(9) % 3])  # class 2 on rank 1 only
    other = torch.randn(14, 4)
    check_two_ranks(
        {
            "activation sparsity": (partial(ActivationSparsity, 4), [(part.relu(),) for part in shards]),
            "alignment": (Alignment, list(zip(shards, other.split([5, 9]), strict=True))),
            "effective rank": (partial(EffectiveRank, 4), [(part,) for part in shards]),
            "feature norms": (partial(FeatureNorms, torch.eye(4)[:, :2]), [(part,) for part in shards]),
            "selectivity": (
                partial(Selectivity, 4, 3),
                list(zip(shards, targets.split([5, 9]), strict=True)),
            ),
            "uniformity": (Uniformity, [(part,) for part in shards]),
        }
    )
