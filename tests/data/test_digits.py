import pytest
import torch

from lightning_ssl_theory.data import DigitsDataModule

OFF = {"rotation": 0, "shift": None, "scale": False, "noise": 0.0}


def rows(images):
    return {tuple(row) for row in images.flatten(1).tolist()}


def joined(loader):
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.fixture(scope="module")
def digits():
    return DigitsDataModule(batch_size=128)


def test_held_out_third_is_stratified_and_apart(digits):
    (train, train_labels), (held_out, held_out_labels) = (
        joined(digits.probe_dataloader()),
        joined(digits.val_dataloader()),
    )
    assert train.shape == (1198, 1, 8, 8)
    assert held_out.shape == (599, 1, 8, 8)
    assert not rows(train) & rows(held_out)
    shares = held_out_labels.bincount() / (train_labels.bincount() + held_out_labels.bincount())
    # one image more or less in a class of about 180
    assert (shares - 1 / 3).abs().max() < 1 / 170


def test_pixels_are_normalised(digits):
    images = torch.cat([joined(digits.probe_dataloader())[0], joined(digits.test_dataloader())[0]])
    assert images.mean().abs() < 1e-3
    assert (images.std() - 1).abs() < 1e-3


def test_split_is_the_same_for_every_seed(digits):
    other = DigitsDataModule(batch_size=128, seed=5)
    assert torch.equal(joined(digits.val_dataloader())[0], joined(other.val_dataloader())[0])


@pytest.mark.parametrize("num_views", [1, 2, 4])
def test_training_batches(num_views):
    data = DigitsDataModule(batch_size=100, num_views=num_views)
    batches = list(data.train_dataloader())
    assert len(batches) == 11
    for views, labels in batches:
        assert len(views) == num_views
        assert all(view.shape == (100, 1, 8, 8) for view in views)
        assert labels.shape == (100,)
    assert len({view.sum().item() for view in batches[0][0]}) == num_views


def test_views_without_augmentation_are_the_clean_images():
    data = DigitsDataModule(batch_size=1198, **OFF)
    (first, second), labels = next(iter(data.train_dataloader()))
    clean, clean_labels = joined(data.probe_dataloader())
    torch.testing.assert_close(first, second)
    distances = torch.cdist(first.flatten(1), clean.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    distance, nearest = distances.min(dim=1)
    assert distance.max() < 1e-4
    assert torch.equal(labels, clean_labels[nearest])


@pytest.mark.parametrize("name", ["rotation", "shift", "scale", "noise"])
def test_every_strength_has_its_switch(name):
    (first, second), _ = next(iter(DigitsDataModule(**OFF | {name: True}).train_dataloader()))
    assert (first - second).flatten(1).abs().amax(1).min() > 1e-3


def test_epochs_differ_and_a_seed_repeats_them():
    def epochs(seed):
        loader = DigitsDataModule(batch_size=600, seed=seed).train_dataloader()
        return [views[0] for _ in range(2) for views, _ in loader]

    first, again, other = epochs(0), epochs(0), epochs(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_loading_draws_nothing_from_the_global_generator():
    loader = DigitsDataModule().train_dataloader()
    state = torch.get_rng_state()
    next(iter(loader))
    assert torch.equal(torch.get_rng_state(), state)


def test_attributes():
    assert DigitsDataModule.num_classes == 10
    assert DigitsDataModule.image_shape == (1, 8, 8)


def test_rejected_settings():
    with pytest.raises(ValueError, match="Expected `batch_size` of at least 1, got 0"):
        DigitsDataModule(batch_size=0)
    with pytest.raises(ValueError, match="Expected `num_views` of at least 1, got -1"):
        DigitsDataModule(num_views=-1)
    with pytest.raises(ValueError, match="Expected `rotation` >= 0 and <= 180, got 200"):
        DigitsDataModule(rotation=200)
    with pytest.raises(ValueError, match=r"Expected `batch_size` <= 1198, .* got 1199"):
        DigitsDataModule(batch_size=1199).train_dataloader()
