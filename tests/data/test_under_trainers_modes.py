"""Data modules where a Trainer changes what it was given: overfitting, prediction, the search for a batch size."""

import pickle
from functools import partial

import pytest
import torch
from helpers.image_folders import write_images
from helpers.toy_ssl import QUIET
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.tuner import Tuner
from torch import nn

from lightning_ssl_theory.data import (
    DigitsDataModule,
    GaussianPretextDataModule,
    HalfMoonsDataModule,
    ImageDataModule,
    LatentTreeDataModule,
    SparseCodingDataModule,
    read_images,
)

BUILDS = {
    "digits": DigitsDataModule,
    "moons": partial(HalfMoonsDataModule, num_samples=40),
    "tree": partial(LatentTreeDataModule, 2, num_samples=400, num_val_samples=8),
    "sparse": partial(SparseCodingDataModule, 6, 3, num_samples=40, num_held_out=8, block_size=2),
    "pretext": partial(GaussianPretextDataModule, "separable", 6, 3, 1, num_samples=40, num_labels=2),
    "images": partial(ImageDataModule, "image_folder", image_size=8),
    "on device": partial(ImageDataModule, "image_folder", image_size=8, augment_on_device=True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(params=BUILDS)
def build(request, folder):
    where = {"data_dir": folder} if request.param in ("images", "on device") else {}
    return partial(BUILDS[request.param], batch_size=8, **where)


class Seen(LightningModule):
    """Keeps the images of its steps."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.images = []

    def training_step(self, batch, batch_idx):
        self.images.append(read_images(batch).clone())
        return self.weight * self.images[-1].mean()

    def predict_step(self, batch, batch_idx):
        return read_images(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(**options):
    return Trainer(**QUIET | {"max_epochs": 2} | options)


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_the_same_batches_are_overfitted_in_every_epoch(build, tmp_path):
    model, again, resumed = Seen(), Seen(), Seen()
    run = trainer(overfit_batches=2)
    run.fit(model, datamodule=build())
    assert len(model.images) == 4
    torch.testing.assert_close(model.images[:2], model.images[2:], rtol=0, atol=0)
    run.save_checkpoint(tmp_path / "run.ckpt")
    trainer(overfit_batches=2, max_epochs=3).fit(again, datamodule=build())
    trainer(overfit_batches=2, max_epochs=3).fit(resumed, datamodule=build(), ckpt_path=tmp_path / "run.ckpt")
    torch.testing.assert_close(resumed.images, again.images[4:], rtol=0, atol=0)


def test_training_data_can_be_predicted_on(build):
    data = build()
    data.setup()
    loader = data.train_dataloader()
    images = torch.cat(trainer().predict(Seen(), loader))
    assert len(images) >= 8 * len(loader) > 0


@pytest.mark.parametrize("name", ["train_dataloader", "val_dataloader"])
def test_a_loader_that_a_hook_makes_can_be_predicted_on(build, name):
    data = build()
    data.predict_dataloader = getattr(data, name)  # Lightning keeps the arguments that its hooks pass
    assert len(torch.cat(trainer().predict(Seen(), datamodule=data))) > 0


def test_a_batch_size_that_is_found_is_taken(build):
    data = build(batch_size=10)
    search = {"datamodule": data, "init_val": 2, "max_trials": 2, "steps_per_trial": 1}
    found = Tuner(trainer(max_epochs=1)).scale_batch_size(Seen(), **search)
    assert found == data.hparams["batch_size"] != 10
    model = Seen()
    trainer(max_epochs=1).fit(model, datamodule=data)
    assert {len(images) for images in model.images} == {found}
    assert len(read_images(next(iter(data.val_dataloader())))) == found


def test_a_data_module_goes_to_spawned_processes(build):
    data = pickle.loads(pickle.dumps(build()))
    model, other = Seen(), Seen()
    trainer(max_epochs=1).fit(model, datamodule=build())
    trainer(max_epochs=1).fit(other, datamodule=data)
    torch.testing.assert_close(other.images, model.images, rtol=0, atol=0)
