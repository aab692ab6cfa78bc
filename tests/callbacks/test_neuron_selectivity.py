"""NeuronSelectivity logs what loops over classes, neurons and samples say."""

import math
from statistics import NormalDist

import pytest
import torch
from helpers.toy_ssl import NUM_CLASSES, ToySSL, clean_loader, fit, seed_all, toy_images
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from lightning_ssl_theory.callbacks import NeuronSelectivity
from lightning_ssl_theory.callbacks.neuron_selectivity import class_table
from lightning_ssl_theory.metrics.selectivity import selectivity
from lightning_ssl_theory.warnings import DiagnosticWarning

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


def correlation_loop(column, latent):
    """corr(f, z) from sums over samples."""
    mean, share = sum(column) / len(column), sum(latent) / len(latent)
    pairs = list(zip(column, latent, strict=True))
    covariance = sum((f - mean) * (z - share) for f, z in pairs)
    spread = sum((f - mean) ** 2 for f, _ in pairs) * sum((z - share) ** 2 for _, z in pairs)
    return covariance / math.sqrt(spread)


def test_correlation_loop_by_hand():
    # Deviations -3, -1, 1, 3 and -1, -1, 1, 1 over 2: covariance 4, spread 20 * 1.
    assert correlation_loop([0.0, 2.0, 4.0, 6.0], [0, 0, 1, 1]) == pytest.approx(4 / math.sqrt(20))


def latent_loader(num_samples, num_latents):
    """Batches (images, labels, latents), the last one smaller; the first latent shifts the whole image."""
    images, labels = toy_images(num_samples)
    latents = torch.randint(0, 2, (num_samples, num_latents), generator=torch.Generator().manual_seed(1))
    images = images + latents[:, 0, None, None, None]
    return DataLoader(TensorDataset(images, labels, latents), 16)


def test_latents_of_any_layer():
    seed_all()
    module, loader = ToySSL(), latent_loader(40, 3)
    callback = NeuronSelectivity(["backbone.conv", "output"], num_classes=NUM_CLASSES, num_latents=3)
    _, logger = fit(module, [callback], val=loader)
    ((_, values),) = logger.looks("selectivity/")
    images, _, latents = loader.dataset.tensors
    module = module.double().eval()
    features = {
        "backbone.conv": module.backbone.conv(images.double()).mean((2, 3)),
        "output": module.embed(images.double()),
    }
    for name, found in features.items():
        expected = [
            [correlation_loop(column, latent) for column in found.detach().T.tolist()]
            for latent in latents.T.tolist()
        ]
        best = [max(map(abs, row)) for row in expected]
        assert best[0] > 2 * max(best[1:])
        assert_close(
            callback.latents[name].correlation, torch.tensor(expected).double(), rtol=1e-4, atol=1e-5
        )
        assert values[f"selectivity/{name}/latent_correlation"] == pytest.approx(sum(best) / 3, rel=1e-4)
        assert values[f"selectivity/{name}/latent_correlation_min"] == pytest.approx(min(best), rel=1e-4)


@pytest.mark.parametrize(
    ("read_batch", "message"),
    [
        (
            lambda batch: (*batch[:2], batch[2][:, :2]),
            r"Expected `latents` of shape \(16, 3\), got \(16, 2\)",
        ),
        (lambda batch: batch[:2], r"Expected latents \(N, K\) in the batch, found none"),
        (
            lambda batch: (*batch[:2], batch[2] * torch.tensor([1, 0, 1])),
            r"Expected both values of every latent, latent 1 took only one; look at more samples",
        ),
    ],
)
def test_latents_that_do_not_fit_are_left_out_with_a_sentence(read_batch, message):
    callback = NeuronSelectivity(["backbone"], num_classes=NUM_CLASSES, num_latents=3, read_batch=read_batch)
    with pytest.warns(DiagnosticWarning, match=message):
        _, logger = fit(ToySSL(), [callback], val=latent_loader(32, 3))
    assert not logger.looks("selectivity/")


def test_no_latents():
    with pytest.raises(ValueError, match="Expected `num_latents` of at least 1, got 0"):
        NeuronSelectivity(["backbone"], num_latents=0)


def test_the_table_of_classes_names_the_clearest_neuron_of_each():
    features = torch.tensor([[0.0, 1.0], [0.0, 3.0], [6.0, 1.0], [8.0, 3.0]])
    found = selectivity(features, torch.tensor([0, 0, 2, 2]), 3)
    table = class_table(found)
    assert table.columns == ("class", "selective share", "clearest neuron", "selectivity", "z-score")
    assert [row[0] for row in table.rows] == [0, 2]  # no sample is of class 1
    assert [(row[2], row[3]) for row in table.rows] == [(0, -3.5), (0, 3.5)]
    assert [row[4] for row in table.rows] == found.z_scores[[0, 2], 0].tolist()
