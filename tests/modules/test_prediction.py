"""Prediction gives the features of images, whatever the format of batches; every loop takes several loaders."""

import pytest
import torch
from helpers.toy_ssl import QUIET
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader

from lightning_ssl_theory import (
    ContrastiveSSL,
    FeatureDecouplingSSL,
    MomentumContrastSSL,
    OrthogonalSSL,
    PredictorSSL,
    PretextSSL,
)
from lightning_ssl_theory.losses import InfoNCELoss

IMAGES = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
BATCHES = [
    (IMAGES, torch.arange(4)),
    IMAGES,
    {"image": IMAGES, "label": torch.arange(4)},
    ([IMAGES, IMAGES + 1], torch.arange(4)),
]
MODULES = [
    lambda: ContrastiveSSL(nn.Linear(6, 3), nn.Linear(3, 2), InfoNCELoss()),
    lambda: FeatureDecouplingSSL(nn.Linear(6, 3)),
    lambda: MomentumContrastSSL(nn.Linear(6, 3), nn.Linear(3, 2)),
    lambda: OrthogonalSSL(6, 7, 3),
    lambda: PredictorSSL(nn.Linear(6, 3), nn.Linear(3, 2), nn.Linear(2, 2), ema=0.9),
    lambda: PretextSSL(nn.Linear(6, 3), nn.Linear(3, 4)),
]


@pytest.mark.parametrize("build", MODULES)
def test_features_of_the_images(build):
    module = build()
    found = Trainer(**QUIET).predict(module, DataLoader(BATCHES, batch_size=None))
    assert len(found) == len(BATCHES)
    for features in found:
        torch.testing.assert_close(features, module(IMAGES).detach())


@pytest.mark.parametrize("build", MODULES)
def test_every_loop_takes_several_loaders(build):
    module = build()
    loaders = [DataLoader(BATCHES, batch_size=None), DataLoader([IMAGES[:3]], batch_size=None)]
    trainer = Trainer(**QUIET)
    trainer.validate(module, loaders, verbose=False)
    trainer.test(module, loaders, verbose=False)
    several = trainer.predict(module, loaders)
    assert [len(features) for loader in several for features in loader] == [4] * len(BATCHES) + [3]


def test_a_reader_of_other_formats_is_used():
    module = PretextSSL(nn.Linear(6, 3), nn.Linear(3, 4), read_batch=lambda batch: batch["deep"]["images"])
    (features,) = Trainer(**QUIET).predict(
        module, DataLoader([{"deep": {"images": IMAGES}}], batch_size=None)
    )
    torch.testing.assert_close(features, module(IMAGES).detach())
