"""The data module's batches: their format, and the same samples for any number of workers and processes."""

from itertools import chain

import pytest
import torch
from helpers.ddp import run_ranks

from lightning_ssl_theory.data import (
    SparseCodingDataModule,
    read_images,
    read_labels,
    read_views,
    task_labels,
)

SMALL = {
    "num_features": 12,
    "num_atoms": 4,
    "probability": 0.4,
    "batch_size": 8,
    "num_samples": 48,
    "block_size": 2,
    "num_held_out": 10,
}


def epochs(world, num_epochs=2):
    loader = world.train_dataloader()
    return [list(loader) for _ in range(num_epochs)]


def sorted_rows(batches):
    rows = [torch.cat([*batch["views"], batch["image"], batch["code"]], dim=1) for batch in batches]
    return sorted(map(tuple, torch.cat(rows).tolist()))


def test_batches():
    world = SparseCodingDataModule(**SMALL)
    world.setup()
    for batch in (batch for epoch in epochs(world) for batch in epoch):
        first, second = read_views(batch)
        assert torch.equal(first + second, 2 * read_images(batch))
        assert not (first * second).any()
        assert batch["image"].shape == (8, 12)
        assert torch.equal(read_labels(batch), task_labels(batch["code"], world.task))
    first, second = epochs(world)
    assert len(first) == 6
    assert not set(sorted_rows(first)) & set(sorted_rows(second))  # new samples in every epoch


def test_without_masks_both_views_are_the_sample():
    batch = next(iter(SparseCodingDataModule(**SMALL, masks=False).train_dataloader()))
    assert all(torch.equal(view, batch["image"]) for view in batch["views"])


def test_clean_loaders():
    world = SparseCodingDataModule(**SMALL)
    held_out, again, probe = (
        torch.cat([batch["image"] for batch in loader])
        for loader in (world.val_dataloader(), world.test_dataloader(), world.probe_dataloader())
    )
    assert held_out.shape == (10, 12)
    assert torch.equal(held_out, again)
    assert not torch.equal(held_out, probe)
    other = SparseCodingDataModule(**SMALL, seed=1)
    assert not torch.equal(other.dictionary, world.dictionary)
    assert not torch.equal(next(iter(other.val_dataloader()))["image"], held_out[:8])


def test_law_of_the_batches():
    world = SparseCodingDataModule(16, 8, probability=0.25, noise_std=0.5, batch_size=4096, num_samples=4096)
    (batch,) = world.train_dataloader()
    assert abs(float((batch["code"] != 0).float().mean()) - 0.25) < 4 * (0.25 * 0.75 / 8 / 4096) ** 0.5
    noise = batch["image"] - batch["code"] @ world.dictionary.mT
    assert abs(float(noise.std()) - 0.5) < 4 * 0.5 / (2 * 16 * 4096) ** 0.5
    usual = SparseCodingDataModule()
    assert (round(usual.probability, 4), round(usual.noise_std**2, 4)) == (0.0388, 0.0582)


def test_law_is_what_predictions_take():
    data = SparseCodingDataModule(12, 5, probability=0.3, noise_std=0.4)
    assert data.law == {"num_features": 12, "num_atoms": 5, "probability": 0.3, "noise_std": 0.4}
    with_dictionary = SparseCodingDataModule(dictionary=data.dictionary, probability=0.3, noise_std=0.4)
    assert with_dictionary.law == data.law


def test_own_dictionary():
    world = SparseCodingDataModule(**SMALL, dictionary=torch.eye(20)[:, :5])
    assert next(iter(world.train_dataloader()))["image"].shape == (8, 20)
    assert world.task.shape == (5,)


def test_same_batches_for_any_number_of_workers():
    alone, helped = (epochs(SparseCodingDataModule(**SMALL, num_workers=n)) for n in (0, 2))
    for batch, other in zip(chain(*alone), chain(*helped), strict=True):
        assert batch.keys() == other.keys()
        assert all(torch.equal(batch[key], other[key]) for key in ("image", "code", "label"))
        assert all(torch.equal(a, b) for a, b in zip(batch["views"], other["views"], strict=True))


def rank_epochs(rank, world_size, batch_size):
    return epochs(SparseCodingDataModule(**SMALL | {"batch_size": batch_size}))


@pytest.mark.ddp
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_same_samples_in_every_step_for_any_number_of_ranks(num_ranks):
    batch_size = {2: 6, 3: 4}[num_ranks]
    ranks = run_ranks(rank_epochs, num_ranks, batch_size)
    whole = epochs(SparseCodingDataModule(**SMALL | {"batch_size": 12}))
    for epoch, expected in enumerate(whole):
        for step, batch in enumerate(expected):
            parts = [rank[epoch][step] for rank in ranks]
            assert sorted_rows(parts) == sorted_rows([batch])
            assert sorted_rows(parts[:1]) != sorted_rows(parts[1:2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_features": 3}, "Expected `num_features` >= `num_atoms` = 4, got 3"),
        ({"dictionary": torch.ones(3, 2)}, r"orthonormal columns, got max \|M\^T M - I\| = 3"),
        ({"probability": -0.5}, r"Expected `probability` in \(0, 1\], got -0.5"),
        ({"noise_std": -1.0}, r"Expected `noise_std` >= 0, got -1\.0"),
        ({"num_atoms": 2, "probability": None}, "Expected `num_atoms` of at least 3, got 2"),
        (
            {"batch_size": 7},
            "Expected `batch_size` to be a multiple of `block_size` = 2, got 7; pass another",
        ),
        ({"block_size": 0}, "Expected `block_size` of at least 1, got 0"),
        ({"num_held_out": 0}, "Expected `num_held_out` of at least 1, got 0"),
        ({"seed": -1}, "Expected `seed` of at least 0, got -1"),
    ],
)
def test_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseCodingDataModule(**SMALL | arguments)


def test_too_few_samples():
    world = SparseCodingDataModule(**SMALL | {"num_samples": 4})
    with pytest.raises(
        ValueError, match="Expected `num_samples` >= 8, a batch on each of 1 processes, got 4"
    ):
        world.train_dataloader()
