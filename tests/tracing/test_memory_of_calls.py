"""Nothing of a pass outlives what it returns, by reference counts alone, also where it fails."""

import gc

import pytest
import torch
from helpers.live_tensors import live_tensors
from torch import nn

from lightning_ssl_theory.distributed import failing_together
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.operators import covariance_operators, covariance_scalars, covariance_spectra
from lightning_ssl_theory.tracing import layer_features, trace_network


@pytest.fixture(scope="module", autouse=True)
def _imported():
    # what torch imports in a first pass keeps the frames of that pass, once
    trace_network(nn.Linear(2, 1), torch.randn(3, 2))


class Steep(nn.Module):
    """The square root of zero: finite outputs, infinite gradients of the first layer."""

    def __init__(self):
        super().__init__()
        self.steep, self.last = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last((self.steep(x) * 0).sqrt() + x[:, :4])


def attention():
    block = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (3, 2)), nn.Linear(2, 6), block, nn.Flatten(), nn.Linear(18, 2))


def mixing():
    return nn.Sequential(nn.Linear(6, 4), nn.Softmax(0), nn.Linear(4, 2))


CALLS = {
    "scalars": lambda model, views: covariance_scalars(model, views, loss=InfoNCELoss()),
    "spectra": lambda model, views: covariance_spectra(model, views, "1", num_eigenvalues=2),
    "named": lambda model, views: covariance_spectra(model, views, "steep", num_eigenvalues=2),
    "operators": lambda model, views: covariance_operators(model, views)[
        "0" if isinstance(model[0], nn.Linear) else "1"
    ].trace(),
    "trace": lambda model, views: trace_network(model, views[:, 0]).outputs.sum().item(),
    "features": lambda model, views: layer_features(model, views[:, 0], ["1", ""]),
    "together": lambda model, views: together(model, views[:, 0]),
}


@failing_together()
def together(model, inputs):
    features = model(inputs)
    raise ValueError(f"Expected nothing, got {tuple(features.shape)}.")


def outlives(call, model):
    """Shapes of what is alive after a call that was not before, and the sentence that it raised."""
    views, sentence = torch.randn(5, 2, 6), ""
    gc.collect()
    gc.disable()
    gc.freeze()  # what is alive now is not gone through again
    try:
        before = live_tensors()
        try:
            call(model, views)
        except ValueError as error:
            sentence = str(error)
        return [tuple(found.shape) for key, found in live_tensors().items() if key not in before], sentence
    finally:
        gc.unfreeze()
        gc.enable()


@pytest.mark.parametrize("name", ["scalars", "spectra", "operators", "trace", "features"])
def test_a_call_leaves_no_tensor_behind(name):
    assert outlives(CALLS[name], attention()) == ([], "")


@pytest.mark.parametrize(
    ("name", "build", "sentence"),
    [
        ("scalars", mixing, "a change of one sample changes others too"),
        ("operators", mixing, "a change of one sample changes others too"),
        ("features", mixing, "a change of one sample changes others too"),
        ("named", Steep, "finite"),
        ("together", mixing, "Expected nothing, got"),
    ],
)
def test_a_call_that_fails_leaves_no_tensor_behind(name, build, sentence):
    left, found = outlives(CALLS[name], build())
    assert sentence in found
    assert left == []
