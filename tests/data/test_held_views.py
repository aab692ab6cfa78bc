"""views_dataloader: the clean sample first, and the same draws whoever asks, whenever."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from lightning_ssl_theory.data import DigitsDataModule, HalfMoonsDataModule, ImageDataModule


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for part in ("train", "test"):
        for label, name in enumerate(("ant", "bee")):
            (root / part / name).mkdir(parents=True)
            for index in range(5):
                colours = [(50 * index, 200 * label, 10 * x) for x in range(16) for _ in range(12)]
                image = Image.new("RGB", (12, 16))
                image.putdata(colours)
                image.save(root / part / name / f"{index}.png")
    return root


def modules(folder, seed=0):
    return [
        ImageDataModule("image_folder", folder, 4, image_size=8, seed=seed),
        DigitsDataModule(64, seed=seed),
        HalfMoonsDataModule(30, num_samples=50, seed=seed),
    ]


def everything(loader) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(loader)
    views = torch.cat([torch.stack(views, dim=1) for views, _ in batches])
    return views, torch.cat([labels for _, labels in batches])


@pytest.mark.parametrize("index", range(3))
def test_the_first_view_is_what_validation_sees(index, folder) -> None:
    data = modules(folder)[index]
    views, labels = everything(data.views_dataloader(3))
    clean = list(data.val_dataloader())
    assert torch.equal(views[:, 0], torch.cat([images for images, _ in clean]))
    assert torch.equal(labels, torch.cat([found for _, found in clean]))
    assert views.shape[1] == 3
    assert len({view.sum().item() for view in views[0]}) == 3  # the others are drawn
    assert everything(data.views_dataloader())[0].shape[1] == 4


@pytest.mark.parametrize("index", range(3))
def test_every_look_sees_the_same_draws(index, folder) -> None:
    loader = modules(folder)[index].views_dataloader()
    torch.manual_seed(1)
    first = everything(loader)[0]
    torch.manual_seed(7)
    assert torch.equal(first, everything(loader)[0])
    assert torch.equal(first, everything(modules(folder)[index].views_dataloader())[0])
    assert not torch.equal(first, everything(modules(folder, seed=3)[index].views_dataloader())[0])


def test_a_view_draws_nothing_from_the_global_generator(folder) -> None:
    for data in modules(folder):
        dataset = data.views_dataloader().dataset
        state = torch.get_rng_state()
        dataset.__getitems__([0, 1])
        assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("index", range(3))
def test_a_sample_has_its_views_in_any_part_of_the_set(index, folder) -> None:
    loader = modules(folder)[index].views_dataloader()
    every = everything(loader)[0]
    rows = [7, 2, 5]
    part = DataLoader(Subset(loader.dataset, rows), batch_size=2, collate_fn=loader.collate_fn)
    assert torch.equal(everything(part)[0], every[rows])


@pytest.mark.parametrize("index", range(3))
def test_rejects_a_single_view(index, folder) -> None:
    message = "Expected `num_views` of at least 2, got 1; the clean sample is the first of them"
    with pytest.raises(ValueError, match=message):
        modules(folder)[index].views_dataloader(1)
