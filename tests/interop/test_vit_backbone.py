"""A vision transformer of timm as the backbone of our own module: it trains, and every diagnostic sees it."""

import functools

import numpy as np
import pytest
import torch
from helpers.toy_ssl import QUIET
from lightning.pytorch import Trainer
from PIL import Image

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    LinearProbe,
    NeuronSelectivity,
    OrthogonalityMonitor,
)
from lightning_ssl_theory.data import ImageDataModule
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.networks import OrthogonalProjector

LAYERS = ["backbone.blocks.0.mlp.fc1", "backbone.blocks.1.attn.qkv", "projector.hidden", "projector.output"]


def test_a_vision_transformer_of_timm_trains_and_is_watched(tmp_path):
    vit = pytest.importorskip("timm.models.vision_transformer")
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(12):
                pixels = random.integers(0, 256, (20, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    torch.manual_seed(0)
    backbone = vit.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0
    )
    module = ContrastiveSSL(
        backbone,
        OrthogonalProjector(16, 24, 8, activation="relu"),
        InfoNCELoss(),
        optimizer=functools.partial(torch.optim.AdamW, lr=1e-3),
        decay_norms_and_biases=False,
    )
    start = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    looks = {"every_n_steps": 2, "strict": True}
    callbacks = [
        CovarianceOperators(LAYERS, num_probes=2, **looks),
        CollapseMonitor(["backbone", "projector"], **looks),
        OrthogonalityMonitor(LAYERS[2:], **looks),
        NeuronSelectivity(["backbone"], num_classes=2, strict=True),
        LinearProbe("backbone", strict=True),
    ]
    data = ImageDataModule("image_folder", tmp_path, 12, image_size=16, augment_on_device=True)
    trainer = Trainer(**QUIET | {"max_epochs": 2, "callbacks": callbacks})
    trainer.fit(module, data)
    logged = trainer.callback_metrics
    for layer in LAYERS:
        assert logged[f"covariance/{layer}/trace"] > 0
    assert logged["collapse/backbone/effective_rank"] > 1
    assert logged["orthogonality/projector.hidden/drift"] < 1e-5
    assert "probe/backbone/logistic_top1" in logged
    assert all(
        not torch.equal(parameter, start[name])
        for name, parameter in module.named_parameters()
        if parameter.ndim > 1
    )
