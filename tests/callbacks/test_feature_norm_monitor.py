"""FeatureNormMonitor logs what loops over samples, neurons and atoms say."""

import math

import pytest
import torch
from helpers.toy_ssl import ToySSL, clean_loader, fit, seed_all
from torch import nn

from lightning_ssl_theory.callbacks import FeatureNormMonitor

FEATURE_KEYS = {"mean_norm", "firing_rate", "hoyer", "dead_share"}
DICTIONARY_KEYS = {
    "sparse_norm",
    "dense_norm",
    "sparse_share",
    "leading_atom_share",
    "singleton_share",
    "covered_share",
    "active_share",
    "active_singleton_share",
}


def feature_loop(features):
    """Norms over samples; per neuron the share of nonzeros and Hoyer's (sqrt N - l1 / l2) / (sqrt N - 1)."""
    num_samples, num_features = features.shape
    norms = [math.sqrt(sum(float(x) ** 2 for x in row)) for row in features]
    rates, hoyers = [], []
    for j in range(num_features):
        column = [float(x) for x in features[:, j]]
        rates.append(sum(x != 0 for x in column) / num_samples)
        if rates[-1]:
            ratio = sum(map(abs, column)) / math.sqrt(sum(x * x for x in column))
            hoyers.append((math.sqrt(num_samples) - ratio) / (math.sqrt(num_samples) - 1))
    return {
        "mean_norm": sum(norms) / num_samples,
        "firing_rate": sum(rates) / num_features,
        "hoyer": sum(hoyers) / len(hoyers),
        "dead_share": sum(rate == 0 for rate in rates) / num_features,
    }


def test_oracle_by_hand():
    # One neuron fires evenly (Hoyer 0), one on a single of four samples (1), one never.
    found = feature_loop(torch.tensor([[3.0, 4.0, 0.0], [3.0, 0.0, 0.0], [3.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
    assert found == pytest.approx(
        {"mean_norm": 3.5, "firing_rate": 1.25 / 3, "hoyer": 0.5, "dead_share": 1 / 3}
    )


def test_features_without_a_dictionary():
    seed_all()
    module, loader = ToySSL(), clean_loader()
    with torch.no_grad():
        module.backbone.norm.weight[2], module.backbone.norm.bias[2] = 0.0, -1.0  # a dead channel
    module.lr = 0.0
    names = ["backbone.conv", "backbone", "output"]
    _, logger = fit(module, [FeatureNormMonitor(names)], val=loader)
    ((_, values),) = logger.looks("feature_norms/")
    images = loader.dataset.tensors[0].double()
    module = module.double().eval()
    features = {
        "backbone.conv": module.backbone.conv(images).mean((2, 3)),
        "backbone": module.backbone(images),
        "output": module.embed(images),
    }
    weight_norm = "feature_norms/backbone.conv/weight_norm"
    assert set(values) == {f"feature_norms/{name}/{key}" for name in names for key in FEATURE_KEYS} | {
        weight_norm
    }
    for name, found in features.items():
        logged = {key: values[f"feature_norms/{name}/{key}"] for key in FEATURE_KEYS}
        assert logged == pytest.approx(feature_loop(found.detach()), rel=1e-5, abs=1e-7)
    assert values["feature_norms/backbone/dead_share"] == 0.25
    rows = module.backbone.conv.weight.detach().flatten(1)
    assert values[weight_norm] == pytest.approx(float(rows.norm(dim=1).mean()), rel=1e-6)


def test_weights_in_a_dictionary():
    module = ToySSL(lr=0.0)
    hidden = module.projector.hidden
    with torch.no_grad():
        hidden.weight.zero_()
        hidden.weight[0, 0] = 3.0  # atom 0 alone
        hidden.weight[1, 1], hidden.weight[1, 2] = 2.0, 2.0  # two atoms evenly
        hidden.weight[2, 1], hidden.weight[2, 15] = 1.0, 2.0  # mostly outside
        hidden.weight[3, 0] = 0.01  # asleep
        hidden.weight[4, 15] = 1.0  # outside
        hidden.weight[5, 3] = -1.0
    atoms = torch.eye(16)[:, :5]
    callback = FeatureNormMonitor(["projector.hidden", "backbone.relu"], dictionary=atoms, every_n_steps=1)
    _, logger = fit(module, [callback], max_steps=1)
    (_, values), (_, again) = logger.looks("feature_norms/")
    found = {k.split("/")[-1]: v for k, v in values.items() if "/projector.hidden/" in k}
    assert found.keys() == FEATURE_KEYS | DICTIONARY_KEYS | {"weight_norm"}
    expected = {
        "sparse_norm": (9 + 8 + 1 + 1e-4 + 0 + 1) / 6,
        "dense_norm": (4 + 1) / 6,
        "sparse_share": 19.0001 / 24.0001,
        "leading_atom_share": (1 + 0.5 + 0.2 + 1 + 0 + 1) / 6,
        "singleton_share": 3 / 6,  # one half is not more than one half
        "active_share": 5 / 6,
        "active_singleton_share": 2 / 5,
        "weight_norm": (3 + math.sqrt(8) + math.sqrt(5) + 0.01 + 1 + 1) / 6,
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-6)
    # Of the active neurons 0, 1, 2, 4, 5 the first leads atom 0, the last atom 3; two tie or lie outside.
    assert found["covered_share"] in (3 / 5, 4 / 5)
    assert {k for k in values if "/backbone.relu/" in k} == {
        f"feature_norms/backbone.relu/{k}" for k in FEATURE_KEYS
    }
    assert {k: again[f"feature_norms/projector.hidden/{k}"] for k in expected} == pytest.approx(
        expected, rel=1e-6
    )


def test_rejects_a_dictionary_of_another_width():
    callback = FeatureNormMonitor(["projector.hidden"], dictionary=torch.eye(5))
    with pytest.raises(ValueError, match=r"Expected `features` of shape \(N, 5\), got \(6, 16\)"):
        fit(ToySSL(), [callback])
    with pytest.raises(ValueError, match="Expected `dictionary` with orthonormal columns"):
        FeatureNormMonitor(["projector.hidden"], dictionary=torch.ones(16, 2))


def test_a_network_without_activity_has_no_hoyer_sparsity():
    module = ToySSL(lr=0.0)
    module.backbone.relu = nn.Threshold(1e9, 0.0)
    callback = FeatureNormMonitor(["backbone.relu"], every_n_steps=1)
    _, logger = fit(module, [callback], max_steps=1)
    values = logger.looks("feature_norms/")[0][1]
    assert values["feature_norms/backbone.relu/dead_share"] == 1.0
    assert "feature_norms/backbone.relu/hoyer" not in values  # undefined, not 0 or 1
