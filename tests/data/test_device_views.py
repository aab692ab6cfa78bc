"""Views that are made of whole batches where the network is: what Lightning's hook gives to the step."""

from pathlib import Path

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.image_folders import write_images
from helpers.toy_ssl import QUIET
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lightning_ssl_theory import ContrastiveSSL, PretextSSL
from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    FeatureNormMonitor,
    GeneralizationMonitor,
    LinearProbe,
    NeuronSelectivity,
)
from lightning_ssl_theory.data import ImageDataModule, read_views
from lightning_ssl_theory.data.clean_images import SeededImages
from lightning_ssl_theory.losses import CrossCorrelationLoss
from lightning_ssl_theory.networks import SmallConvNet

OFF = {"crop": 0, "flip": 0, "color": 0, "gray": 0, "blur": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


def images(root, **arguments) -> ImageDataModule:
    usual = {"batch_size": 4, "image_size": 8, "augment_on_device": True}
    return ImageDataModule("image_folder", root, **usual | arguments)


class Seen(LightningModule):
    """Keeps the batches of its steps, by epoch and first seed; draws noise as a careless step does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.batches, self.held_out, self.noise = [], [], []

    def training_step(self, batch, batch_idx):
        self.batches.append(batch)
        self.noise.append(torch.rand(()).item())
        return self.weight * sum(view.mean() for view in read_views(batch))

    def validation_step(self, batch, batch_idx):
        self.held_out.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(module, data, **arguments) -> Trainer:
    trainer = Trainer(**QUIET | {"max_epochs": 1, "num_sanity_val_steps": 0} | arguments)
    trainer.fit(module, data)
    return trainer


def test_the_loader_gives_bytes_and_the_step_gets_views(folder):
    data = images(folder, num_views=3)
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch, SeededImages)
    assert (batch.images.dtype, batch.images.shape) == (torch.uint8, (4, 3, 8, 8))
    views, labels = data.on_after_batch_transfer(batch, 0)  # a loop without a trainer
    assert [view.shape for view in views] == [(4, 3, 8, 8)] * 3
    assert all(view.dtype == torch.float32 for view in views)
    assert len({view.sum().item() for view in views}) == 3
    assert torch.equal(labels, batch.labels)
    plain = images(folder, augment_on_device=False).val_dataloader()
    seen = Seen()
    fit(seen, data, max_epochs=2)
    assert [len(views) for views, _ in seen.batches] == [3] * 8
    for (found, labels), (expected, expected_labels) in zip(seen.held_out[:4], plain, strict=True):
        assert torch.equal(found, expected)
        assert torch.equal(labels, expected_labels)


def test_without_augmentation_the_views_are_the_clean_images(folder):
    data = images(folder, batch_size=16, **OFF)
    (views, _), clean = (
        data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0),
        next(iter(data.probe_dataloader()))[0],
    )
    distances = torch.cdist(views[0].flatten(1), clean.flatten(1))
    assert distances.min(1).values.max() < 1e-5
    assert len(set(distances.argmin(1).tolist())) == 16


def test_views_depend_on_seed_epoch_and_sample_alone(folder):
    def views_by_image(rank_batches):
        return {key: view for views, keys in rank_batches for key, view in zip(keys, views, strict=True)}

    def epoch(number, **arguments):
        data = images(folder, **arguments)
        loader = data.train_dataloader()
        loader.sampler.set_epoch(number)
        rows = []
        for batch in loader:
            views, _ = data.on_after_batch_transfer(batch, 0)
            rows.append((views[0], [tuple(image.flatten().tolist()) for image in batch.images]))
        return views_by_image(rows)

    first, other_batches = epoch(0), epoch(0, batch_size=2)
    assert first.keys() == other_batches.keys()
    assert all(torch.equal(first[key], other_batches[key]) for key in first)
    for changed in (epoch(1), epoch(0, seed=1)):
        assert not any(torch.equal(first[key], changed[key]) for key in first)


def _views_of_rank(rank, world_size, folder):
    data = images(Path(folder))
    loader = data.train_dataloader()
    pairs = [(batch.seeds.tolist(), data.on_after_batch_transfer(batch, 0)[0][1]) for batch in loader]
    return {seed: view.clone() for seeds, views in pairs for seed, view in zip(seeds, views, strict=True)}


@pytest.mark.ddp
def test_any_number_of_ranks_gives_a_sample_the_same_view(folder):
    ranks = run_ranks(_views_of_rank, 2, str(folder))
    alone = _views_of_rank(0, 1, folder)
    assert [len(one) for one in ranks] == [8, 8]
    assert not ranks[0].keys() & ranks[1].keys()
    for seed, view in (ranks[0] | ranks[1]).items():
        assert torch.equal(view, alone[seed])


def test_a_run_resumed_within_an_epoch_sees_the_same_views(folder, tmp_path):
    whole, rest = Seen(), Seen()
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
    fit(whole, images(folder), max_epochs=2, callbacks=[saver], enable_checkpointing=True)
    trainer = Trainer(**QUIET, max_epochs=2, num_sanity_val_steps=0)
    trainer.fit(rest, images(folder), ckpt_path=tmp_path / "step=3.ckpt")
    assert (len(whole.batches), len(rest.batches)) == (8, 5)
    for (views, _), (expected, _) in zip(rest.batches, whole.batches[3:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(views, expected, strict=True))


def test_the_generators_of_training_are_left_alone(folder):
    noises = []
    for on_device in (True, False):
        torch.manual_seed(0)
        seen = Seen()
        fit(seen, images(folder, augment_on_device=on_device))
        noises.append(seen.noise)
    assert noises[0] == noises[1]


def test_views_have_the_dtype_of_the_trainers_precision(folder):
    seen = Seen()
    fit(seen, images(folder), precision="64-true")
    assert {view.dtype for views, _ in seen.batches for view in views} == {torch.float64}
    assert {batch[0].dtype for batch in seen.held_out} == {torch.float64}


class Halving(Seen):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [[view / 2 for view in batch[0]] if isinstance(batch[0], list) else batch[0] / 2, batch[1]]


@pytest.mark.filterwarnings("ignore:You have overridden")
@pytest.mark.parametrize("on_device", [True, False])
def test_a_modules_own_hook_comes_after(folder, on_device):
    plain, halved = Seen(), Halving()
    for module in (plain, halved):
        fit(module, images(folder, augment_on_device=on_device))
    for (views, _), (half, _) in zip(plain.batches, halved.batches, strict=True):
        assert torch.equal(views[1] / 2, half[1])
    assert torch.equal(plain.held_out[0][0] / 2, halved.held_out[0][0])


class Unlabelled(ImageDataModule):
    """Images whose training labels are -1, as those of STL-10's unlabelled split; probes and validation have theirs."""

    def train_dataloader(self):
        known = self._part("train")
        self._parts["train"] = [(image, -1) for image, _ in known]
        loader = super().train_dataloader()
        self._parts["train"] = known
        return loader


def backbone() -> SmallConvNet:
    return SmallConvNet(3, [4, 6])


@pytest.mark.parametrize(
    ("build", "on_device"),
    [
        (lambda: ContrastiveSSL(backbone(), nn.Linear(6, 4), CrossCorrelationLoss()), True),
        (lambda: ContrastiveSSL(backbone(), nn.Linear(6, 4), CrossCorrelationLoss()), False),
        (lambda: PretextSSL(backbone(), nn.Linear(6, 4)), True),
    ],
    ids=["contrastive-device", "contrastive-loader", "rotation"],
)
def test_training_without_labels_goes_through_modules_and_callbacks(folder, build, on_device):
    torch.manual_seed(0)
    data = Unlabelled("image_folder", folder, 8, image_size=8, augment_on_device=on_device)
    assert next(iter(data.train_dataloader()))[1].tolist() == [-1] * 8
    steps = {"every_n_steps": 1, "strict": True}
    module = build()
    callbacks = [
        CollapseMonitor(["backbone"], **steps),
        FeatureNormMonitor(["backbone"], **steps),
        NeuronSelectivity(["backbone"], num_classes=2, strict=True),
        LinearProbe("backbone", strict=True),
        GeneralizationMonitor(["backbone"], strict=True),
    ]
    if isinstance(module, ContrastiveSSL):
        callbacks.append(CovarianceOperators(["projector"], num_probes=2, **steps))
    logged = fit(module, data, callbacks=callbacks).callback_metrics
    sections = {key.split("/")[0] for key in logged}
    assert {"collapse", "feature_norms", "selectivity", "probe", "generalization"} <= sections
    assert ("covariance" in sections) == isinstance(module, ContrastiveSSL)
    assert all(value.isfinite() for key, value in logged.items() if key.startswith(("train", "collapse")))


def test_a_look_at_classes_says_that_training_has_none(folder):
    data = Unlabelled("image_folder", folder, 8, image_size=8, augment_on_device=True)
    module = ContrastiveSSL(backbone(), nn.Linear(6, 4), CrossCorrelationLoss())
    look = NeuronSelectivity(["backbone"], num_classes=2, every_n_steps=1)
    with pytest.warns(UserWarning, match="Expected labels in the batch"):
        fit(module, data, callbacks=[look])
