"""OrthogonalityMonitor logs the spectral norm of W^T W - I."""

import numpy as np
import pytest
import torch
from helpers.toy_ssl import ToySSL, fit, seed_all
from torch import nn
from torch.utils.data import DataLoader

from lightning_ssl_theory.callbacks import OrthogonalityMonitor


def drift(weight):
    """The largest |s^2 - 1| over the singular values; of the shorter side's rows or columns."""
    return float(
        np.abs(np.linalg.svd(weight.detach().double().flatten(1).numpy(), compute_uv=False) ** 2 - 1).max()
    )


def test_values_at_every_look():
    seed_all()
    module = ToySSL()
    first = {name: drift(module.get_submodule(name).weight) for name in ("projector.out", "backbone.conv")}
    callback = OrthogonalityMonitor(list(first), every_n_steps=2)
    _, logger = fit(module, [callback])
    rows = logger.looks("orthogonality/")
    assert [step for step, _ in rows] == [0, 2, 4]
    assert rows[0][1] == pytest.approx(
        {f"orthogonality/{name}/drift": value for name, value in first.items()}
    )
    assert rows[0] != rows[1]


def test_orthonormal_weights_of_either_shape_read_zero():
    module = ToySSL(lr=0.0)
    nn.init.orthogonal_(module.projector.hidden.weight)  # wide
    module.projector.out = torch.nn.utils.parametrizations.orthogonal(nn.Linear(6, 3))  # computed
    tall = nn.Linear(6, 9)
    nn.init.orthogonal_(tall.weight, gain=2.0)
    module.unused = tall
    callback = OrthogonalityMonitor(["projector.hidden", "projector.out", "unused"])
    _, logger = fit(module, [callback])
    (step, first), (_, values) = logger.looks("orthogonality/")
    assert step == 0
    assert first == values
    assert values["orthogonality/projector.hidden/drift"] == pytest.approx(0, abs=1e-5)
    assert values["orthogonality/projector.out/drift"] == pytest.approx(0, abs=1e-5)
    assert values["orthogonality/unused/drift"] == pytest.approx(3, rel=1e-5)


def test_needs_no_images():
    module = ToySSL()
    module.training_step = lambda batch, batch_idx: module.projector.out(torch.ones(2, 6)).sum()
    train = DataLoader([{"anything": 1}] * 2, batch_size=None)
    _, logger = fit(module, [OrthogonalityMonitor("projector.out", every_n_steps=1)], train=train)
    assert [step for step, _ in logger.looks("orthogonality/")] == [0, 1, 2]


def test_rejects_layers_without_a_weight_matrix():
    with pytest.raises(
        ValueError, match=r"Expected layer 'backbone\.norm' with a weight matrix, got BatchNorm2d"
    ):
        fit(ToySSL(), [OrthogonalityMonitor(["backbone.norm"])])
