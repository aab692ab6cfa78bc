"""Features of named layers, one vector for each sample."""

from copy import deepcopy

import pytest
import torch
from helpers.one_look import assert_unchanged, everything
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.tracing import layer_features
from lightning_ssl_theory.tracing.layer_features import FeatureReader


def network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(6, 3)
    )


class Shapes(nn.Module):
    """Puts out a matrix, tokens, an image and numbers; each axis of features is that of a linear map before it."""

    def __init__(self):
        super().__init__()
        self.matrix, self.tokens, self.image = nn.Linear(2, 3), nn.Linear(2, 3), nn.Conv2d(2, 3, 1)
        self.pooled, self.scalar = nn.Identity(), nn.Identity()

    def forward(self, x):
        self.pooled(self.image(x[:, :, None, None] + torch.tensor([[0.0, 4.0]])).mean((2, 3), keepdim=True))
        self.tokens(x[:, None] + torch.arange(3.0)[:, None])
        return self.scalar(self.matrix(x)[:, 0])


def test_features_of_every_shape():
    model, x = Shapes(), torch.randn(4, 2)
    found = layer_features(model, x, ["matrix", "tokens", "image", "pooled", "scalar", ""])
    image = model.image(x[:, :, None, None] + 2.0)[:, :, 0, 0]
    expected = {"matrix": model.matrix(x), "tokens": model.tokens(x + 1.0), "image": image, "pooled": image}
    expected |= dict.fromkeys(["scalar", ""], model.matrix(x)[:, :1])
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert_close(found[name], value.detach())


def test_a_pool_of_ones_own():
    model, x = Shapes(), torch.randn(4, 2)
    found = layer_features(model, x, ["image", "matrix"], pool=lambda value: value.flatten(2).amax(2))
    seen = model.image(x[:, :, None, None] + torch.tensor([[0.0, 4.0]]))
    assert_close(found["image"], seen.detach().amax((2, 3)))
    assert_close(found["matrix"], model.matrix(x).detach())
    with pytest.raises(
        ValueError, match=r"Expected `pool` to make \(N, D\) of layer 'image', got \(4, 3, 1\); average"
    ):
        layer_features(model, x, ["image"], pool=lambda value: value.mean(3))


def test_features_are_those_of_evaluation_mode_and_change_nothing():
    model, inputs = network(), torch.randn(7, 5)
    model(torch.randn(9, 5))
    before = everything(model)
    found = layer_features(model, inputs, ["3", ""])
    assert_unchanged(before, everything(model))
    plain = deepcopy(model).eval()
    assert_close(found["3"], plain[:4](inputs).detach())
    assert_close(found[""], plain(inputs).detach())


def test_features_are_those_before_an_activation_in_place():
    model, inputs = network(), torch.randn(7, 5)
    found = layer_features(model, inputs, ["1", "2"])
    assert (found["1"] < 0).any()
    assert_close(found["2"], found["1"].relu())
    assert not found["1"].requires_grad


def test_a_reader_serves_batches_of_any_size():
    model, inputs = Shapes(), torch.randn(6, 2)
    names = ["tokens", "image"]
    reader = FeatureReader(model, inputs, names)
    for size in (1, 2, 5):
        for name, value in layer_features(model, inputs, names).items():
            assert_close(reader(inputs[:size])[name], value[:size])


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.unused, self.recurrent = nn.Linear(2, 2), nn.Linear(2, 2), nn.LSTM(2, 2)
        self.bare, self.grid = nn.Identity(), nn.Identity()

    def forward(self, x):
        self.grid(self.bare(x[:, :, None] + torch.ones(2)))
        return self.recurrent(self.shared(self.shared(x))[:, None])[0][:, 0]


REFUSED = [
    pytest.param("shared", ValueError, "Expected layer 'shared' to see one input in a forward pass, it saw two", id="twice"),
    pytest.param("recurrent", TypeError, "Expected layer 'recurrent' to put out one tensor, got tuple; name a layer inside", id="tuple"),
    pytest.param("bare", ValueError, r"Expected to find the axis of layer 'bare' that holds features, \(3, 2, 2\) does not show it; pass `pool=`", id="no-axis"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "message"), REFUSED)
def test_rejects_layers_that_cannot_be_read(name, kind, message):
    model, inputs = Odd(), torch.randn(3, 2)
    before = everything(model)
    with pytest.raises(kind, match=message):
        layer_features(model, inputs, [name])
    assert_unchanged(before, everything(model))
    reader = FeatureReader(model, inputs, [name, ""])
    assert list(reader.left_out) == [name]
    assert list(reader(inputs)) == [""]


def test_rejects_layers_that_nothing_reaches():
    class Unreached(nn.Sequential):
        def forward(self, x):
            return self[0](x)

    model = Unreached(nn.Linear(2, 2), nn.Bilinear(2, 2, 2))
    with pytest.raises(
        ValueError, match="Expected the forward pass to reach layer '1', it did not; name layers"
    ):
        layer_features(model, torch.randn(3, 2), ["1"])


@pytest.mark.parametrize("dead", [[], [2], [0, 1, 2], [0, 1, 2, 3]], ids=str)
def test_features_that_are_dead_on_the_first_samples_hide_no_axis(dead):
    """A feature that a ReLU holds at 0 lets nothing through that would show where features lie; another does."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    with torch.no_grad():
        model[1].bias[dead] = -100.0
    found = layer_features(model, torch.randn(5, 3, 6, 6), ["2", "3", "0"])
    assert {name: tuple(value.shape) for name, value in found.items()} == dict.fromkeys("230", (5, 4))
    assert (found["3"][:, dead] == 0).all()
    assert (found["3"].sum(0) > 0).tolist() == [index not in dead for index in range(4)]
