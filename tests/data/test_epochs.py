from functools import partial

import pytest
import torch
from helpers.ddp import run_ranks

from lightning_ssl_theory.data import (
    DigitsDataModule,
    HalfMoonsDataModule,
    ImageDataModule,
    LatentTreeDataModule,
    MultiViewDataset,
    SparseCodingDataModule,
)
from lightning_ssl_theory.data.epochs import EpochDataset, EpochSampler, check_seed, training_loader


class Numbers(EpochDataset):
    def __init__(self, num_samples, *, seed=0):
        super().__init__(seed=seed)
        self.num_samples = num_samples

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        return [torch.tensor(index)], torch.tensor(index)


def order(epoch, *, seed=0, num_samples=11, **ranks):
    sampler = EpochSampler(Numbers(num_samples), seed=seed, **ranks)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_order_is_a_permutation_that_depends_on_seed_and_epoch():
    assert sorted(order(0)) == list(range(11))
    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0) != order(0, seed=1)


def test_processes_share_an_epoch_without_repetition():
    parts = [order(2, num_replicas=3, rank=rank) for rank in range(3)]
    assert [len(part) for part in parts] == [3, 3, 3]
    assert len(set().union(*parts)) == 9


def test_every_pass_is_the_next_epoch_unless_told_otherwise():
    sampler = EpochSampler(Numbers(11))
    assert [list(sampler) for _ in range(3)] == [order(0), order(1), order(2)]
    sampler.set_epoch(1)
    assert list(sampler) == order(1)
    assert list(sampler) == order(2)


def test_dataset_is_told_the_epoch():
    dataset = Numbers(11)
    sampler = EpochSampler(dataset)
    first = dataset.seed_of(3)
    sampler.set_epoch(1)
    assert dataset.seed_of(3) != first
    sampler.set_epoch(0)
    assert dataset.seed_of(3) == first


def test_seeds_of_samples_epochs_and_seeds_differ():
    seeds = set()
    for seed in range(3):
        dataset = Numbers(5, seed=seed)
        for epoch in range(3):
            dataset.set_epoch(epoch)
            seeds |= {dataset.seed_of(index) for index in range(5)}
    assert len(seeds) == 45


def test_the_length_of_a_dataset_is_its_own_matter():
    with pytest.raises(NotImplementedError):
        len(EpochDataset())


def test_last_incomplete_batch_is_dropped():
    loader = training_loader(Numbers(11), 4)
    assert [len(labels) for _, labels in loader] == [4, 4]


def batches(loader) -> list[list[int]]:
    return [labels.tolist() for _, labels in loader]


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_loader_keeps_its_place(place, num_workers):
    def new():
        return training_loader(Numbers(13), 4, num_workers=num_workers)

    whole = new()
    epochs = [batches(whole) for _ in range(3)]
    broken_off = new()
    batches(broken_off)
    iterator = iter(broken_off)
    for _ in range(place):
        next(iterator)
    resumed = new()
    iterator = iter(resumed)  # Lightning asks for it before it tells the epoch
    resumed.load_state_dict(broken_off.state_dict() if place else {"epoch": 1, "batch": 0})
    assert resumed.state_dict() == {"epoch": 1 + place // 3, "batch": place % 3}
    if place < 3:
        resumed.sampler.set_epoch(1)
        assert [labels.tolist() for _, labels in iterator] == epochs[1][place:]
    assert batches(resumed) == epochs[2]


def test_another_epoch_starts_at_its_first_sample():
    loader = training_loader(Numbers(13), 4)
    epochs = [batches(loader) for _ in range(3)]
    resumed = training_loader(Numbers(13), 4)
    resumed.load_state_dict({"epoch": 1, "batch": 2})
    resumed.sampler.set_epoch(2)  # as after `limit_train_batches`
    assert batches(resumed) == epochs[2]


def test_rejects_batches_larger_than_the_data():
    with pytest.raises(
        ValueError, match=r"Expected `batch_size` <= 11, the number .* got 12; pass a smaller one"
    ):
        training_loader(Numbers(11), 12)
    with pytest.raises(ValueError, match="Expected `batch_size` of at least 1, got 0"):
        training_loader(Numbers(11), 0)


def test_rejects_negative_seeds():
    check_seed(0)
    with pytest.raises(ValueError, match="Expected `seed` of at least 0, got -1"):
        check_seed(-1)


def _noisy_batches(num_workers):
    data = [(torch.zeros(2), label) for label in range(6)]
    views = MultiViewDataset(data, lambda x: x + torch.randn(2), seed=4)
    loader = training_loader(views, 3, seed=4, num_workers=num_workers)
    return [torch.stack(views) for _ in range(2) for views, _ in loader]


def test_loader_processes_change_nothing_over_epochs():
    alone, helped = _noisy_batches(0), _noisy_batches(1)
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))
    assert len({batch.sum().item() for batch in alone}) == 4


def _epoch_of_rank(rank, world_size):
    loader = DigitsDataModule(batch_size=100, seed=1).train_dataloader()
    return loader.dataset._images[list(loader.sampler)], torch.cat([views[0] for views, _ in loader])


@pytest.mark.ddp
def test_ranks_see_different_samples_of_one_epoch():
    (images_0, views_0), (images_1, views_1) = run_ranks(_epoch_of_rank, 2)
    together = {tuple(row) for row in torch.cat([images_0, images_1]).flatten(1).tolist()}
    assert len(images_0) == len(images_1) == 599
    assert len(together) == 1198
    # without the ranks' split each process would see all images
    assert len(_epoch_of_rank(0, 1)[0]) == 1198
    assert views_0.shape == views_1.shape == (500, 1, 8, 8)
    assert (views_0 != views_1).any()


@pytest.mark.parametrize(
    "build",
    [
        DigitsDataModule,
        partial(ImageDataModule, "mnist", "unread"),
        HalfMoonsDataModule,
        LatentTreeDataModule,
        SparseCodingDataModule,
    ],
)
def test_data_modules_refuse_negative_seeds(build):
    with pytest.raises(ValueError, match="Expected `seed` of at least 0, got -1"):
        build(seed=-1)
