import pytest
import torch

from lightning_ssl_theory.networks import MLP
from lightning_ssl_theory.networks.activations import activation_layer


def dot(row, x):
    return sum(w * value for w, value in zip(row, x, strict=True))


def forward(weights, biases, x):
    """x -> W_2 relu(W_1 x + b_1) + b_2 by lists of numbers."""
    hidden = [max(dot(row, x) + b, 0.0) for row, b in zip(weights[0], biases[0], strict=True)]
    return [dot(row, hidden) + b for row, b in zip(weights[1], biases[1], strict=True)]


def test_oracle_by_hand():
    assert forward([[[1, -1], [2, 0]], [[1, 1]]], [[0, -1], [3]], [1, 2]) == [4]


def test_matches_loop():
    network = MLP([3, 4, 2]).double()
    weights = [network.linear_1.weight.tolist(), network.linear_2.weight.tolist()]
    biases = [network.linear_1.bias.tolist(), network.linear_2.bias.tolist()]
    inputs = torch.randn(5, 3, dtype=torch.float64)
    expected = torch.tensor([forward(weights, biases, x) for x in inputs.tolist()], dtype=torch.float64)
    torch.testing.assert_close(network(inputs), expected)


def test_layers_have_the_documented_names():
    names = [name for name, _ in MLP([4, 3, 2], batch_norm=True).named_children()]
    assert names == ["flatten", "linear_1", "norm_1", "activation_1", "linear_2"]


def test_a_norm_at_the_end():
    network = MLP([4, 3, 2], output_norm=True).double()
    names = [name for name, _ in network.named_children()]
    assert names == ["flatten", "linear_1", "activation_1", "linear_2", "norm_2"]
    outputs = network(10 * torch.randn(64, 4).double())
    torch.testing.assert_close(outputs.mean(0), torch.zeros(2).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(outputs.var(0, correction=0), torch.ones(2).double(), atol=1e-2, rtol=0)


def test_without_bias_it_is_homogeneous():
    network, x = (
        MLP([4, 8, 3], bias=False, activation="leaky_relu").double(),
        torch.randn(5, 4, dtype=torch.float64),
    )
    torch.testing.assert_close(network(3 * x), 3 * network(x))
    assert all("bias" not in name for name, _ in network.named_parameters())


def test_images_are_flattened():
    network = MLP([12, 5])
    assert network(torch.zeros(2, 3, 2, 2)).shape == (2, 5)
    assert network.num_features == 5


@pytest.mark.parametrize("widths", [[], [3], [3, 0], [3, -1, 2]])
def test_rejects_widths(widths):
    with pytest.raises(ValueError, match=r"Expected `widths` of at least (2 elements|1), got"):
        MLP(widths)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", 0.0),
        ("leaky_relu", -0.01),
        ("tanh", -0.76159),
        ("sigmoid", 0.26894),
        ("identity", -1.0),
        ("gelu", -0.15866),
    ],
)
def test_activations(name, expected):
    assert activation_layer(name)(torch.tensor(-1.0)).item() == pytest.approx(expected, abs=1e-5)


def test_rejects_unknown_activation():
    with pytest.raises(
        ValueError, match=r"Expected `activation` to be one of relu, .*, got 'step'; choose one"
    ):
        MLP([2, 2, 2], activation="step")
