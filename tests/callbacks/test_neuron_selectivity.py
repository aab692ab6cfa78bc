"""NeuronSelectivity logs what loops over classes, neurons and samples say."""

import math
from statistics import NormalDist

import pytest
import torch
from helpers.toy_ssl import NUM_CLASSES, ToySSL, clean_loader, fit, seed_all, toy_images
from torch.utils.data import DataLoader, TensorDataset

from lightning_ssl_theory.callbacks import NeuronSelectivity

KEYS = {"selective_share", "mean", "max", "max_z"}


def selectivity_loop(features, labels, num_classes, alpha):
    """v_kj = (E[f_j | k] - E[f_j | not k]) / 2; its variance when labels are permuted is S^2 N / (4 n_k (N - n_k))."""
    num_samples, num_features = features.shape
    strongest, strongest_z = [], []
    for j in range(num_features):
        column = [float(x) for x in features[:, j]]
        mean = sum(column) / num_samples
        variance = sum((x - mean) ** 2 for x in column) / (num_samples - 1)
        v, z = [], []
        for k in range(num_classes):
            inside = [x for x, y in zip(column, labels, strict=True) if y == k]
            outside = [x for x, y in zip(column, labels, strict=True) if y != k]
            v.append(abs(sum(inside) / len(inside) - sum(outside) / len(outside)) / 2)
            null = variance * num_samples / (4 * len(inside) * len(outside))
            z.append(v[-1] / math.sqrt(null) if null > 0 else 0.0)
        strongest.append(max(v))
        strongest_z.append(max(z))
    threshold = NormalDist().inv_cdf(1 - alpha / (2 * num_classes * num_features))
    return {
        "selective_share": sum(z > threshold for z in strongest_z) / num_features,
        "mean": sum(strongest) / num_features,
        "max": max(strongest),
        "max_z": max(strongest_z),
    }


def test_oracle_by_hand():
    # Features 0, 2 | 4, 6: v = (5 - 1) / 2 = 2; S^2 = 20/3, its null variance 20/3 * 4 / 16 = 5/3.
    found = selectivity_loop(torch.tensor([[0.0], [2.0], [4.0], [6.0]]), [0, 0, 1, 1], 2, 0.05)
    assert found == {
        "selective_share": 0.0,
        "mean": 2.0,
        "max": 2.0,
        "max_z": pytest.approx(2 / math.sqrt(5 / 3)),
    }


def test_values_on_validation():
    seed_all()
    module, loader = ToySSL(), clean_loader(60)
    callback = NeuronSelectivity(["backbone.conv", "backbone", "output"], num_classes=NUM_CLASSES, alpha=0.2)
    trainer, logger = fit(module, [callback], val=loader)
    ((step, values),) = logger.looks("selectivity/")
    assert step == trainer.global_step
    images, labels = loader.dataset.tensors
    module = module.double().eval()
    features = {
        "backbone.conv": module.backbone.conv(images.double()).mean((2, 3)),
        "backbone": module.backbone(images.double()),
        "output": module.embed(images.double()),
    }
    assert set(values) == {f"selectivity/{name}/{key}" for name in features for key in KEYS}
    shares = set()
    for name, found in features.items():
        expected = selectivity_loop(found.detach(), labels.tolist(), NUM_CLASSES, 0.2)
        logged = {key: values[f"selectivity/{name}/{key}"] for key in KEYS}
        assert logged == pytest.approx(expected, rel=1e-4)
        shares.add(logged["selective_share"])
    assert len(shares) > 1, "the layers tell nothing apart"
    (validated,) = trainer.validate(module.float(), loader, verbose=False)
    assert {key: validated[key] for key in values} == pytest.approx(values, rel=1e-6)


def test_training_batches_by_steps_and_unlabelled_samples():
    images, labels = toy_images(12)
    labels[::4] = -1  # no label
    train = DataLoader(TensorDataset(torch.stack([images, images + 1], dim=1), labels), 12)
    seed_all()
    module = ToySSL()
    callback = NeuronSelectivity(["backbone.conv"], num_classes=NUM_CLASSES, every_n_steps=1)
    train.collate_fn = lambda items: (
        [torch.stack([views[a] for views, _ in items]) for a in range(2)],
        torch.stack([label for _, label in items]),
    )
    _, logger = fit(module, [callback], train=train, max_epochs=2)
    rows = logger.looks("selectivity/")
    assert [step for step, _ in rows] == [0, 1, 2]
    untrained = ToySSL().double().eval()
    features = untrained.backbone.conv(images.double()).mean((2, 3)).detach()
    expected = selectivity_loop(features[labels >= 0], labels[labels >= 0].tolist(), NUM_CLASSES, 0.05)
    logged = {key: rows[0][1][f"selectivity/backbone.conv/{key}"] for key in KEYS}
    assert logged == pytest.approx(expected, rel=1e-5)
