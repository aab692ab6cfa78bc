"""Collectives on two and three ranks with different data and uneven rows, and the identity on one."""

import os
import socket
from typing import Any

import pytest
import torch
import torch.distributed as dist
from helpers.ddp import run_ranks
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from lightning_ssl_theory.distributed import (
    ROOM,
    all_from_first_rank,
    all_gather_rows,
    all_sum,
    all_sum_with_grad,
    any_rank,
    failing_together,
    from_first_rank,
    identity,
    is_distributed,
    rank,
    row_places,
    world_size,
)

ROWS = torch.arange(16.0, dtype=torch.float64).reshape(8, 2)
WEIGHTS = torch.linspace(-1.0, 2.0, 16, dtype=torch.float64).reshape(8, 2)
SHARDS = {2: (3, 5), 3: (3, 0, 5)}


def shard(tensor: Tensor, rank: int, world_size: int) -> Tensor:
    return tensor.split(SHARDS[world_size])[rank]


def test_one_process_is_the_identity() -> None:
    rows = ROWS.clone().requires_grad_()
    assert (is_distributed(), rank(), world_size()) == (False, 0, 1)
    assert all(function(rows) is rows for function in (identity, all_sum, all_sum_with_grad, all_gather_rows))
    assert row_places(torch.zeros(5)) == (0, (5,))
    assert any_rank(True)
    assert not any_rank(False)


def test_scalar_has_no_rows() -> None:
    with pytest.raises(
        ValueError, match="Expected `tensor` with at least one dimension, got a scalar; pass rows"
    ):
        all_gather_rows(torch.tensor(1.0))


def _values(rank_: int, world_size_: int) -> dict[str, Any]:
    mine = shard(ROWS, rank_, world_size_).clone()
    leaf = torch.tensor([float(rank_), 1.0], requires_grad=True)
    transposed = (ROWS[:2] * (rank_ + 1)).mT
    return {
        "who": (is_distributed(), rank(), world_size()),
        "gathered": all_gather_rows(mine),
        "indices": all_gather_rows(torch.full((rank_, 1), rank_)),
        "sum": all_sum(leaf),
        "leaf": leaf.detach(),
        "transposed": all_sum(transposed),
        "offset": row_places(mine),
        "any": (any_rank(rank_ == 1), any_rank(False), any_rank(True)),
    }


@pytest.mark.ddp
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_values_are_those_of_the_concatenation(num_ranks: int) -> None:
    results = run_ranks(_values, num_ranks)
    first_rows = {2: [0, 3], 3: [0, 3, 3]}[num_ranks]
    for i, result in enumerate(results):
        assert result["who"] == (True, i, num_ranks)
        torch.testing.assert_close(result["gathered"], ROWS, rtol=0, atol=0)
        assert result["indices"].flatten().tolist() == [k for k in range(num_ranks) for _ in range(k)]
        assert result["sum"].tolist() == [sum(range(num_ranks)), num_ranks]
        assert not result["sum"].requires_grad
        assert result["leaf"].tolist() == [i, 1.0]  # a new tensor was summed, not the argument
        torch.testing.assert_close(result["transposed"], ROWS[:2].mT * sum(range(1, num_ranks + 1)))
        assert result["offset"].first == first_rows[i]
        assert result["offset"].total == 8
        assert result["any"] == (True, False, True)


def _objective(rows: Tensor, total: Tensor) -> Tensor:
    return (WEIGHTS * rows**3).sum() + total.square().sum()


def _gradients(rank_: int, world_size_: int) -> tuple[Tensor, Tensor]:
    mine = shard(ROWS, rank_, world_size_).clone().requires_grad_()
    value = _objective(all_gather_rows(mine), all_sum_with_grad(mine.sum(0)))
    value.backward()
    assert mine.grad is not None
    return value.detach(), mine.grad


@pytest.mark.ddp
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_backward_gives_the_gradient_times_the_number_of_ranks(num_ranks: int) -> None:
    rows = ROWS.clone().requires_grad_()
    value = _objective(rows, rows.sum(0))
    (expected,) = torch.autograd.grad(value, rows)
    for i, (rank_value, gradient) in enumerate(run_ranks(_gradients, num_ranks)):
        torch.testing.assert_close(rank_value, value.detach())
        torch.testing.assert_close(gradient, num_ranks * shard(expected, i, num_ranks))
        if len(gradient):  # what an all-reduce without a gradient would give
            assert not torch.allclose(gradient, shard(expected, i, num_ranks))


def _gradchecks(rank_: int, world_size_: int) -> None:
    # Equal perturbations on every rank: the finite difference of the sum over ranks is the summed gradient.
    mine = torch.linspace(0.1, 1.0, 4, dtype=torch.float64).reshape(2, 2).requires_grad_()
    for function in (all_sum_with_grad, all_gather_rows):
        assert gradcheck(lambda x, f=function: f(x.sin()).sum(0) / world_size_, mine)
        assert gradgradcheck(lambda x, f=function: f(x.sin()).sum(0) / world_size_, mine)


@pytest.mark.ddp
def test_gradcheck() -> None:
    run_ranks(_gradchecks, 2)


def _different_rows(rank_: int, world_size_: int) -> None:
    all_gather_rows(torch.zeros(2, 3 + rank_))


@pytest.mark.ddp
def test_rows_of_different_sizes_are_rejected_instead_of_hanging() -> None:
    with pytest.raises(
        RuntimeError, match=r"Expected rows of one size on every rank, got \[3, 4\] numbers a row"
    ):
        run_ranks(_different_rows, 2)


def _environment(rank_: int, world_size_: int, names: list[str]) -> list[str]:
    return [os.environ[name] for name in names]


def _can_take_port(rank_: int, world_size_: int) -> bool:
    with socket.socket() as other:
        try:
            other.bind((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))
        except OSError:
            return False
        return True


def _dies(rank_: int, world_size_: int) -> None:
    if rank_ == 1:
        os._exit(3)
    torch.distributed.barrier()


def _hangs(rank_: int, world_size_: int) -> None:
    while rank_ == 1:
        pass


@pytest.mark.ddp
def test_harness_sets_what_torchrun_sets() -> None:
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"]
    assert run_ranks(_environment, 2, names, init=False) == [
        [str(i), str(i), "2", "2", "127.0.0.1"] for i in (0, 1)
    ]


@pytest.mark.ddp
def test_harness_keeps_its_port_from_the_first_moment() -> None:
    assert run_ranks(_can_take_port, 2, init=False) == [False, False]


@pytest.mark.ddp
def test_harness_reports_a_dead_and_a_silent_rank() -> None:
    with pytest.raises(RuntimeError, match=r"Rank [01] failed"):
        run_ranks(_dies, 2)
    with pytest.raises(TimeoutError, match=r"No answer in time from ranks \[(0, )?1\]"):
        run_ranks(_hangs, 2, init=False, timeout=2.0)


def _fails_between(rank_: int, world_size_: int) -> list[str]:
    sentences = []
    for failing, error in (
        (1, ValueError("of the second rank")),
        (0, RuntimeError("of the first rank")),
        (1, MemoryError("is full")),
    ):
        for position in range(4):
            try:
                with failing_together(lambda found: f"{type(found).__name__} {found}"):
                    for step in range(4):
                        if rank_ == failing and step == position:
                            raise error
                        all_sum(torch.ones(2 + step))
                        all_gather_rows(torch.ones(rank_, 3))
                        from_first_rank(torch.zeros(2))
                        any_rank(False)
            except ValueError as found:
                sentences.append(str(found))
            assert float(all_sum(torch.tensor(1.0))) == world_size_  # both are at the same place again
    return sentences


@pytest.mark.ddp
def test_a_rank_that_fails_between_collectives_takes_the_others_along() -> None:
    first, second = run_ranks(_fails_between, 2)
    expected = ["ValueError of the second rank", "RuntimeError of the first rank", "MemoryError is full"]
    assert first == second == [sentence for sentence in expected for _ in range(4)]


def _is_interrupted(rank_: int, world_size_: int) -> str:
    try:
        with failing_together():
            if rank_ == 1:
                raise KeyboardInterrupt
            all_sum(torch.ones(2))
    except KeyboardInterrupt as found:
        return type(found).__name__
    return "went on"


@pytest.mark.ddp
def test_a_rank_that_is_interrupted_interrupts_the_others() -> None:
    assert run_ranks(_is_interrupted, 2, timeout=30.0) == ["_AnotherStoppedError", "KeyboardInterrupt"]


def _fails_and_is_interrupted(rank_: int, world_size_: int) -> str:
    try:
        with failing_together():
            raise ValueError("of one rank") if rank_ else KeyboardInterrupt
    except KeyboardInterrupt as found:
        return type(found).__name__


@pytest.mark.ddp
def test_a_rank_that_fails_while_another_is_interrupted_does_not_wait_for_it() -> None:
    assert run_ranks(_fails_and_is_interrupted, 2, timeout=30.0) == [
        "KeyboardInterrupt",
        "_AnotherStoppedError",
    ]


def _small_and_large(rank_: int, world_size_: int) -> tuple[list[tuple[Tensor, Tensor]], int, list[Tensor]]:
    values = [
        torch.tensor(2**40 + rank_),
        torch.full((ROOM,), 0.1 + rank_),
        torch.full((ROOM + 1,), 0.1 + rank_),
        torch.zeros(0, 3),
        torch.ones(2, 3, dtype=torch.float16) * rank_,
    ]
    alone = [all_sum(value) for value in values]
    counted: list[int] = []
    whole = dist.all_reduce
    dist.all_reduce = lambda *args, **kwargs: (counted.append(1), whole(*args, **kwargs))[1]
    try:
        with failing_together():
            inside = [all_sum(value) for value in values]
    finally:
        dist.all_reduce = whole
    mixed = [torch.full((2, 2), 1.5 + rank_), torch.tensor(3 + rank_), torch.tensor([rank_ == 0, True])]
    return list(zip(alone, inside, strict=True)), len(counted), all_from_first_rank(mixed)


@pytest.mark.ddp
def test_small_sums_travel_with_the_status_and_many_tensors_in_one_broadcast() -> None:
    for pairs, num_collectives, shared in run_ranks(_small_and_large, 2):
        for alone, inside in pairs:
            assert alone.dtype == inside.dtype
            assert alone.shape == inside.shape
            torch.testing.assert_close(inside, alone, rtol=1e-7, atol=0)
        assert int(pairs[0][1]) == 2**41 + 1
        assert num_collectives == len(pairs) + 1 + 1  # the one that is too large, and the end of the block
        torch.testing.assert_close(
            shared, [torch.full((2, 2), 1.5), torch.tensor(3), torch.tensor([True, True])]
        )


def test_failing_on_one_process_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^out of room$"), failing_together():
        raise RuntimeError("out of room")
