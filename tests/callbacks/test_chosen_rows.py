"""A look takes every sample once, or some of them spread over the set, on any number of ranks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    SubsetRandomSampler,
)

from lightning_ssl_theory.callbacks.chosen_rows import chosen_rows, spread


def taken(loader, num_samples=None):
    """The samples that the look of one rank takes."""
    found, num_before = [], 0
    for index, batch in enumerate(loader):
        rows = chosen_rows(loader, index, len(batch), num_samples, num_before=num_before)
        found += [int(batch[row]) for row in rows]
        num_before += len(batch)
    return found


def rank_loaders(data, world_size, batch_size, *, shuffle=False, as_batch_sampler=False):
    samplers = [DistributedSampler(data, world_size, rank, shuffle=shuffle) for rank in range(world_size)]
    if as_batch_sampler:
        return [
            DataLoader(data, batch_sampler=BatchSampler(s, batch_size, drop_last=False)) for s in samplers
        ]
    return [DataLoader(data, batch_size, sampler=sampler) for sampler in samplers]


@settings(max_examples=60, deadline=None)
@given(
    total=st.integers(1, 30),
    world_size=st.integers(1, 4),
    batch_size=st.integers(1, 7),
    num_samples=st.none() | st.integers(2, 12),
    as_batch_sampler=st.booleans(),
)
def test_ranks_together_take_what_one_process_takes(
    total, world_size, batch_size, num_samples, as_batch_sampler
):
    data = torch.arange(total)
    loaders = rank_loaders(data, world_size, batch_size, as_batch_sampler=as_batch_sampler)
    together = sorted(sample for loader in loaders for sample in taken(loader, num_samples))
    alone = taken(DataLoader(data, batch_size), num_samples)
    assert together == alone
    assert len(alone) == min(total, total if num_samples is None else num_samples)
    assert alone == sorted(set(alone))


def test_padding_shows_where_it_is_not_left_out():
    loaders = rank_loaders(torch.arange(5), 2, 2)
    assert sorted(int(sample) for loader in loaders for batch in loader for sample in batch) == [
        0,
        0,
        1,
        2,
        3,
        4,
    ]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_shuffled_and_divided_subsets(world_size):
    shuffled = rank_loaders(torch.arange(11), world_size, 3, shuffle=True)
    assert sorted(sample for loader in shuffled for sample in taken(loader)) == list(range(11))

    class Divided(DistributedSampler):
        """What Lightning makes of a sampler of the user's own: divided is the sampler, not the dataset."""

        def __iter__(self):
            return (self.dataset[index] for index in super().__iter__())

    data = torch.arange(20)
    loaders = [
        DataLoader(data, 2, sampler=Divided([3, 8, 9, 15, 17], world_size, rank, shuffle=False))
        for rank in range(world_size)
    ]
    assert sorted(sample for loader in loaders for sample in taken(loader)) == [3, 8, 9, 15, 17]


def test_one_process_with_a_subset():
    loader = DataLoader(torch.arange(20), 3, sampler=SubsetRandomSampler([3, 8, 9, 15]))
    assert sorted(taken(loader)) == [3, 8, 9, 15]
    assert len(taken(loader, 2)) == 2


def test_items_that_are_whole_batches():
    items = [torch.arange(4), torch.arange(4, 8), torch.arange(8, 10)]
    loader = DataLoader(items, batch_size=None)
    assert taken(loader) == list(range(10))
    assert taken(loader, 6) == list(range(6))
    ranks = [
        DataLoader(items, batch_size=None, sampler=DistributedSampler(items, 2, rank, shuffle=False))
        for rank in (0, 1)
    ]
    assert [taken(loader) for loader in ranks] == [
        [0, 1, 2, 3, 8, 9],
        [4, 5, 6, 7],
    ]  # the second rank's second is padding


def test_sets_without_a_length_and_loaders_that_are_none():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(torch.arange(10))

    assert taken(DataLoader(Stream(), 4)) == list(range(10))
    assert taken(DataLoader(Stream(), 4), 6) == list(range(6))
    assert taken([torch.arange(3), torch.arange(3, 5)]) == list(range(5))


@pytest.mark.parametrize("world_size", [1, 2])
def test_spread_over_the_batches_that_are_run(world_size):
    data, found = torch.arange(40), []
    for loader in rank_loaders(data, world_size, 4):
        for index, batch in enumerate(loader):
            if index < 6 // world_size:
                rows = chosen_rows(loader, index, 4, 6, num_before=4 * index, num_batches=6 // world_size)
                found += [int(batch[row]) for row in rows]
    assert sorted(found) == spread(6, 24)
    assert [position // 4 for position in sorted(found)] == [0, 1, 2, 3, 4, 5]
    assert len(taken(DataLoader(data, 4), 6)) == 6
    assert max(taken(DataLoader(data, 4), 6)) > 24  # over the whole set they reach further


def test_spread():
    assert list(spread(None, 3)) == list(spread(5, 3)) == [0, 1, 2]
    assert list(spread(2, 10)) == [0, 8]  # 5 and 0.618 of 5
    assert list(spread(3, 3)) == [0, 1, 2]


@pytest.mark.parametrize(("total", "num_samples"), [(16, 8), (10_000, 1000), (48, 12), (600, 100)])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_rows_are_spread_over_the_ranks_too(total, num_samples, world_size):
    """At one distance, 2 or 10 or 4 samples apart, all of them would be one rank's."""
    loaders = rank_loaders(torch.arange(total), world_size, 4)
    shares = [len(taken(loader, num_samples)) for loader in loaders]
    assert sum(shares) == num_samples
    assert min(shares) >= (1 if num_samples < 100 else 0.9 * num_samples / world_size)
    in_step = [index * total // num_samples for index in range(num_samples)]
    assert len({position % 2 for position in in_step}) == 1 or total == 600


def test_one_sample_in_every_equal_part():
    for total, num_samples in ((16, 8), (10_000, 999), (37, 36)):
        edges = [index * total // num_samples for index in range(num_samples + 1)]
        for position, first, last in zip(spread(num_samples, total), edges, edges[1:], strict=False):
            assert first <= position < last
