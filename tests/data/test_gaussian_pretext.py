"""Batches of the Gaussian world: their law, their labels, and that everything follows from the seed."""

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.data import (
    GaussianPretextDataModule,
    four_rotations,
    gaussian_pretext_moments,
    read_downstream,
    read_images,
    read_labels,
    read_pretext,
)

SMALL = {"num_features": 5, "num_pretext": 3, "num_downstream": 1, "num_samples": 32, "num_held_out": 10}


def test_samples_have_the_covariance():
    data = GaussianPretextDataModule("entangled", 5, 3, 1, num_samples=50_000, batch_size=50_000)
    (batch,) = data.train_dataloader()
    rows = torch.cat([batch["image"], batch["pretext"], batch["downstream"]], 1).double()
    assert_close(rows.mT @ rows / len(rows), data.moments.covariance, rtol=0, atol=0.1)
    assert rows.mean(0).abs().max() < 0.02
    assert torch.equal(batch["label"], (batch["downstream"][:, 0] > 0).long())


def test_the_first_samples_have_labels_and_the_readers_know_the_batch():
    data = GaussianPretextDataModule(**SMALL, num_labels=12, batch_size=8)
    batches = list(data.train_dataloader())
    assert len(batches) == 4
    known = torch.cat([read_downstream(batch)[1] for batch in batches])
    assert int(known.sum()) == 12
    for batch in batches:
        targets, is_known = read_downstream(batch)
        assert torch.equal(is_known, batch["label"] >= 0)
        assert torch.equal(is_known, ~targets.isnan().any(1))
        assert read_images(batch).shape == (8, 5)
        assert read_pretext(batch).shape == (8, 3)
    for loader in (data.val_dataloader(), data.test_dataloader(), data.probe_dataloader()):
        assert [len(read_images(batch)) for batch in loader] == [8, 2]
        assert all(read_downstream(batch)[1].all() and read_labels(batch).min() >= 0 for batch in loader)


def test_everything_is_a_function_of_seed_and_epoch():
    def epochs(seed):
        data = GaussianPretextDataModule(**SMALL, batch_size=32, seed=seed)
        loader = data.train_dataloader()
        return data, [next(iter(loader))["image"] for _ in range(2)]

    (data, first), (again, second), (other, third) = epochs(3), epochs(3), epochs(4)
    assert torch.equal(torch.stack(first), torch.stack(second))
    assert torch.equal(data.moments.covariance, again.moments.covariance)
    assert not torch.equal(data.moments.covariance, other.moments.covariance)
    assert not torch.equal(first[0], third[0])
    assert not torch.equal(first[0], first[1])  # another order
    assert {tuple(row) for row in first[0].tolist()} == {tuple(row) for row in first[1].tolist()}
    held_out, probe = (
        next(iter(loader))["image"] for loader in (data.val_dataloader(), data.probe_dataloader())
    )
    assert not torch.equal(held_out, probe)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(
        data.draw(3, generator=generator).inputs,
        again.draw(3, generator=torch.Generator().manual_seed(0)).inputs,
    )


def test_a_covariance_of_one_s_own():
    covariance = gaussian_pretext_moments("infeasible", 5, 3, 1).covariance
    data = GaussianPretextDataModule(**SMALL, covariance=covariance, batch_size=8)
    assert_close(data.moments.covariance, covariance)
    assert "covariance" not in data.hparams


def test_rotations():
    images = torch.randn(3, 2, 4, 4)
    turned, turns = four_rotations(images)
    assert torch.equal(turned[:3], images)
    for index in range(12):
        back = torch.rot90(turned[index], -int(turns[index]), (1, 2))
        assert torch.equal(back, images[index % 3])
    assert turns.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def test_downstream_labels():
    codes, is_known = read_downstream((torch.randn(3, 2), torch.tensor([2, -1, 0])), 3)
    assert codes[[0, 2]].tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert is_known.tolist() == [True, False, True]
    assert not read_downstream((torch.randn(3, 2), torch.full((3,), -1)), 3)[1].any()


def test_sentences():
    x = torch.randn(3, 2)
    with pytest.raises(
        ValueError, match="Expected `num_labels` of at most 32, got 33; they are training samples"
    ):
        GaussianPretextDataModule(**SMALL, num_labels=33)
    with pytest.raises(ValueError, match="Expected `batch_size` <= 32, the number of training samples"):
        GaussianPretextDataModule(**SMALL, batch_size=33).train_dataloader()
    with pytest.raises(
        ValueError, match=r"Expected square `images` to turn, got \(1, 1, 2, 3\); crop or pad"
    ):
        four_rotations(torch.zeros(1, 1, 2, 3))
    with pytest.raises(ValueError, match=r'Expected "pretext" targets .* got a dictionary with keys'):
        read_pretext({"image": x})
    partial = torch.tensor([[0.0, torch.nan], [1.0, 2.0], [torch.nan, torch.nan]])
    with pytest.raises(
        ValueError, match="Expected every row of `downstream` to be known or NaN as a whole, got 1"
    ):
        read_downstream({"image": x, "downstream": partial})
    with pytest.raises(ValueError, match="Expected `num_classes` for batches with class labels, got None"):
        read_downstream((x, torch.arange(3)))
    with pytest.raises(ValueError, match=r"Expected `labels` in 0\.\.1, got 0 to 2"):
        read_downstream((x, torch.arange(3)), 2)
