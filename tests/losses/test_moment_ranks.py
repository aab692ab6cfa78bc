"""Losses on moments of the batch on two and three ranks with uneven data: values and gradients of one process."""

from itertools import product
from typing import Any

import pytest
import torch
from helpers.ddp import run_ranks
from torch.nn.parallel import DistributedDataParallel

from lightning_ssl_theory.losses import CrossCorrelationLoss
from losses.test_moment_losses import LIST
from losses.test_pairwise import INPUTS, SHARDS, linear, step

close = torch.testing.assert_close

FAR = INPUTS.clone()
FAR[:3] += 50.0  # the first rank's samples lie elsewhere: moments of its own are other ones


def _on_rank(rank: int, world_size: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inputs in (("near", INPUTS), ("far", FAR)):
        mine = inputs.split(SHARDS[world_size])[rank]
        plain, averaging = linear(), DistributedDataParallel(linear())
        found[name] = [(step(plain, loss, mine), step(averaging, loss, mine)[2]) for loss in LIST]
    single = INPUTS.split(SHARDS[world_size])[rank].float()
    found["single"] = [step(linear(torch.float32), loss, single)[0] for loss in LIST]
    constant = torch.ones(rank + 1, 3)
    try:
        CrossCorrelationLoss()(constant, constant)
    except ValueError as error:
        found["sentence"] = str(error)
    return found


@pytest.mark.ddp
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_give_the_value_and_gradient_of_the_concatenation(world_size: int) -> None:
    results = run_ranks(_on_rank, world_size)
    for (name, inputs), (k, loss) in product((("near", INPUTS), ("far", FAR)), enumerate(LIST)):
        value, parts, gradients = step(linear(), loss, inputs)
        for found in results:
            (rank_value, rank_parts, _), averaged = found[name][k]
            close((rank_value, rank_parts), (value, parts), rtol=1e-10, atol=1e-10)
            close(averaged, gradients, rtol=1e-7, atol=1e-9)
        by_hand = [
            torch.stack(g).mean(0) for g in zip(*(found[name][k][0][2] for found in results), strict=True)
        ]
        close(by_hand, gradients, rtol=1e-7, atol=1e-9)
    for found in results:
        expected = [step(linear(), loss, INPUTS)[0] for loss in LIST]
        close([value.double() for value in found["single"]], expected, rtol=1e-5, atol=1e-5)
        assert "Expected `z1` to vary over the samples" in found["sentence"]


def test_without_synchronisation_the_ranks_would_give_another_value_and_gradient() -> None:
    for loss, inputs in product(LIST, (INPUTS, FAR)):
        value, _, gradients = step(linear(), loss, inputs)
        alone = [step(linear(), loss, part) for part in inputs.split(SHARDS[2])]
        assert abs(sum(a[0] for a in alone) / 2 - value) > 1e-3 * abs(value)
        assert (sum(a[2][0] for a in alone) / 2 - gradients[0]).norm() > 1e-3 * gradients[0].norm()
