"""CollapseMonitor logs what singular values of the features say."""

import math

import numpy as np
import pytest
import torch
from helpers.toy_ssl import ToySSL, clean_loader, fit, seed_all

from lightning_ssl_theory.callbacks import CollapseMonitor

KEYS = {"effective_rank", "rankme", "min_std", "mean_std", "dimension_alignment"}


def entropy_rank(weights):
    shares = [w / sum(weights) for w in weights if w > 0]
    return math.exp(-sum(p * math.log(p) for p in shares))


def ranks(features):
    """exp(entropy) of the shares of squared singular values, centred, and of the singular values, uncentred."""
    features = features.detach().double().numpy()
    deviations = features.std(0)
    centred = np.linalg.svd(features - features.mean(0), compute_uv=False)
    return {
        "effective_rank": entropy_rank([s**2 for s in centred if s > 1e-9]),
        "rankme": entropy_rank([s for s in np.linalg.svd(features, compute_uv=False) if s > 1e-9]),
        "min_std": deviations.min(),
        "mean_std": deviations.mean(),
        "dimension_alignment": np.abs(np.corrcoef(features.T)[np.triu_indices(features.shape[1], 1)]).mean(),
    }


def test_oracle_by_hand():
    corners = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    half = math.sqrt(0.5)
    assert ranks(corners) == pytest.approx(
        {"effective_rank": 2, "rankme": 2, "min_std": half, "mean_std": half, "dimension_alignment": 0}
    )


def test_values_on_validation():
    seed_all()
    module, loader = ToySSL(), clean_loader(40)
    trainer, logger = fit(module, [CollapseMonitor(["backbone.conv", "output"])], val=loader)
    ((_, values),) = logger.looks("collapse/")
    images = loader.dataset.tensors[0].double()
    module = module.double().eval()
    features = {"backbone.conv": module.backbone.conv(images).mean((2, 3)), "output": module.embed(images)}
    assert set(values) == {
        f"collapse/{name}/{key}" for name in features for key in KEYS | {"num_features", "num_samples"}
    }
    assert values["collapse/output/num_samples"] == 40
    for name, found in features.items():
        assert values[f"collapse/{name}/num_features"] == found.shape[1]
        assert {key: values[f"collapse/{name}/{key}"] for key in KEYS} == pytest.approx(
            ranks(found), rel=1e-4
        )
    (validated,) = trainer.validate(module.float(), loader, verbose=False)
    assert {key: validated[key] for key in values} == pytest.approx(values, rel=1e-6)


def test_collapsed_and_flat_outputs():
    module = ToySSL(lr=0.0)
    with torch.no_grad():
        module.projector.out.weight.zero_()
    _, logger = fit(module, [CollapseMonitor()], val=clean_loader())
    values = logger.looks("collapse/")[0][1]
    assert values["collapse/output/effective_rank"] == 1.0
    assert values["collapse/output/min_std"] == 0.0
    assert values["collapse/output/dimension_alignment"] == 1.0
    assert values["collapse/output/rankme"] == pytest.approx(1.0, abs=1e-6)


def test_num_samples_bounds_a_look():
    module, loader = ToySSL(lr=0.0), clean_loader(40)
    _, logger = fit(module, [CollapseMonitor(num_samples=6)], val=loader)
    values = logger.looks("collapse/")[0][1]
    spread = [
        0,
        10,
        14,
        25,
        29,
        33,
    ]  # of 0, 6, 13, 20, 26, 33 to the next, the parts 0, .62, .24, .85, .47, .09
    found = ranks(module.double().eval().embed(loader.dataset.tensors[0][spread].double()))
    assert {key: values[f"collapse/output/{key}"] for key in KEYS} == pytest.approx(found, rel=1e-4)
