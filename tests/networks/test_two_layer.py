"""The two-layer network: its formula, its initial weights and what it refuses."""

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.manifolds import orthogonality_drift
from lightning_ssl_theory.networks.two_layer import TwoLayerNetwork

FUNCTIONS = {
    "identity": lambda a: a,
    "relu": lambda a: a * (a > 0),
    "tanh": lambda a: (a.exp() - (-a).exp()) / (a.exp() + (-a).exp()),
    "sigmoid": lambda a: 1 / (1 + (-a).exp()),
}


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_formula(activation: str) -> None:
    network = TwoLayerNetwork(3, 5, 2, activation).double()
    w1, w2 = network.hidden.weight.tolist(), network.output.weight.mT.tolist()
    x = torch.randn(4, 3, dtype=torch.float64)
    expected = torch.zeros(4, 2, dtype=torch.float64)
    for n in range(4):
        for j in range(5):
            hidden = FUNCTIONS[activation](sum(w1[j][k] * x[n, k] for k in range(3)))
            for i in range(2):
                expected[n, i] += w2[j][i] * hidden
    assert_close(network(x), expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("widths", [(3, 5, 2), (4, 4, 4), (1, 1, 1), (64, 128, 8)])
def test_initial_weights_are_orthonormal(widths: tuple[int, int, int]) -> None:
    network = TwoLayerNetwork(*widths)
    in_features, hidden_features, out_features = widths
    assert network.hidden.weight.shape == (hidden_features, in_features)
    assert network.output.weight.shape == (out_features, hidden_features)
    assert network.num_features == out_features
    assert sum(p.numel() for p in network.parameters()) == hidden_features * (in_features + out_features)
    for layer in (network.hidden, network.output):
        assert orthogonality_drift(layer.weight.detach()) < 2e-6


def test_initial_weights_are_drawn_from_torchs_generator() -> None:
    first, second = TwoLayerNetwork(3, 5, 2), TwoLayerNetwork(3, 5, 2)
    torch.manual_seed(0)  # as before the first, by the fixture
    again = TwoLayerNetwork(3, 5, 2)
    assert torch.equal(again.hidden.weight, first.hidden.weight)
    assert not torch.equal(second.hidden.weight, first.hidden.weight)


def test_initial_weights_are_uniform_on_the_manifold() -> None:
    # Entries of a uniform matrix have mean 0 and mean square 1/H; a fixed sign rule would shift the mean.
    draws = torch.stack([TwoLayerNetwork(2, 3, 1).hidden.weight.detach() for _ in range(400)])
    assert (draws.mean(0).abs() < 4 * (1 / 3 / 400) ** 0.5).all()
    assert ((draws.square().mean(0) - 1 / 3).abs() < 4 * (4 / 45 / 400) ** 0.5).all()


def test_images_are_flattened() -> None:
    network, images = TwoLayerNetwork(12, 12, 2), torch.randn(5, 3, 2, 2)
    assert torch.equal(network(images), network(images.reshape(5, 12)))


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 1), (4,), ()])
def test_rejects_inputs_of_another_width(shape: tuple[int, ...]) -> None:
    message = r"Expected `inputs` of shape \(N, \*\) with 4 numbers a sample, got \(.*\); set in_features"
    with pytest.raises(ValueError, match=message):
        TwoLayerNetwork(4, 6, 2)(torch.zeros(shape))


@pytest.mark.parametrize(("name", "widths"), [("in_features", (9, 8, 2)), ("out_features", (2, 8, 9))])
def test_rejects_too_few_hidden_features(name: str, widths: tuple[int, int, int]) -> None:
    with pytest.raises(
        ValueError, match=f"Expected `hidden_features` >= `{name}` = 9, got 8; orthonormal columns"
    ):
        TwoLayerNetwork(*widths)


def test_rejects_empty_layers() -> None:
    with pytest.raises(ValueError, match="Expected `out_features` of at least 1, got 0"):
        TwoLayerNetwork(3, 5, 0)


def test_rejects_unknown_activations() -> None:
    with pytest.raises(ValueError, match=r"Expected `activation` to be one of .*identity.*, got 'cube'"):
        TwoLayerNetwork(3, 5, 2, "cube")
