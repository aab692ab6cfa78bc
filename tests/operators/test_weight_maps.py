"""Per-sample gradients and their inner products, against one backward pass a sample."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.operators import patches, sample_gradients, view_gram, weight_map
from lightning_ssl_theory.operators.weight_maps import _view_gram_chunk

NUM_SAMPLES, NUM_VIEWS = 3, 2
CASES = [
    pytest.param(lambda: nn.Linear(4, 3), (4,), id="linear"),
    pytest.param(lambda: nn.Linear(4, 3, bias=False), (5, 4), id="linear-tokens"),
    pytest.param(lambda: nn.Linear(2, 3), (3, 2, 2), id="linear-4d"),
    pytest.param(lambda: nn.Linear(9, 8), (2, 9), id="linear-wide"),
    pytest.param(lambda: nn.Conv1d(2, 3, 3), (2, 7), id="conv1d"),
    pytest.param(lambda: nn.Conv1d(4, 6, 3, groups=2, stride=2, dilation=2, padding=3), (4, 9), id="conv1d-all"),
    pytest.param(lambda: nn.Conv1d(2, 3, 4, padding="same", padding_mode="circular"), (2, 6), id="conv1d-same-circular"),
    pytest.param(lambda: nn.Conv2d(2, 3, 3, padding=1, bias=False), (2, 4, 5), id="conv2d"),
    pytest.param(lambda: nn.Conv2d(4, 6, (3, 2), groups=2, stride=(1, 2), dilation=(2, 1)), (4, 6, 5), id="conv2d-all"),
    pytest.param(lambda: nn.Conv2d(4, 4, 3, groups=4, padding=(0, 1)), (4, 4, 4), id="conv2d-depthwise"),
    pytest.param(lambda: nn.Conv2d(2, 3, (2, 4), padding="same"), (2, 4, 5), id="conv2d-same-even"),
    pytest.param(lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 4, 4), id="conv2d-reflect"),
    pytest.param(lambda: nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="replicate"), (2, 4, 4), id="conv2d-replicate"),
    pytest.param(lambda: nn.Conv2d(2, 3, 1, stride=2, padding=1, padding_mode="circular"), (2, 5, 4), id="conv2d-point"),
    pytest.param(lambda: nn.Conv2d(5, 4, 3), (5, 3, 3), id="conv2d-one-position"),
]  # fmt: skip


def case(build, shape):
    layer = build().double()
    inputs = torch.randn(NUM_SAMPLES * NUM_VIEWS, *shape, dtype=torch.float64)
    deltas = torch.randn_like(layer(inputs))
    return layer, inputs, deltas


def gradients_loop(layer, inputs, deltas):
    """One backward pass a view, (S, P)."""
    rows = []
    for view, delta in zip(inputs, deltas, strict=True):
        (gradient,) = torch.autograd.grad((layer(view[None])[0] * delta).sum(), layer.weight)
        rows.append(gradient.reshape(-1))
    return torch.stack(rows)


def grams_loop(rows):
    grams = torch.zeros(NUM_SAMPLES, NUM_VIEWS, NUM_VIEWS, dtype=rows.dtype)
    for i in range(NUM_SAMPLES):
        for a in range(NUM_VIEWS):
            for b in range(NUM_VIEWS):
                grams[i, a, b] = rows[i * NUM_VIEWS + a] @ rows[i * NUM_VIEWS + b]
    return grams


def test_oracle_by_hand():
    # z = w . h, delta = 2: the gradient is 2 h
    layer, inputs = nn.Linear(2, 1), torch.tensor([[1.0, 3.0], [0.0, 1.0]])
    rows = gradients_loop(layer, inputs, torch.full((2, 1), 2.0))
    assert rows.tolist() == [[2.0, 6.0], [0.0, 2.0]]


@pytest.mark.parametrize(("build", "shape"), CASES)
def test_sample_gradients(build, shape):
    layer, inputs, deltas = case(build, shape)
    assert_close(sample_gradients(layer, inputs, deltas), gradients_loop(layer, inputs, deltas))


@pytest.mark.parametrize(("build", "shape"), CASES)
def test_view_gram_by_positions_and_by_gradients(build, shape):
    layer, inputs, deltas = case(build, shape)
    expected = grams_loop(gradients_loop(layer, inputs, deltas))
    assert_close(view_gram(layer, inputs, deltas, NUM_VIEWS), expected)
    assert_close(view_gram(layer, inputs, deltas, NUM_VIEWS, max_entries=1), expected)  # a sample at a time
    for use_ghost in (False, True):
        assert_close(_view_gram_chunk(layer, inputs, deltas, NUM_VIEWS, use_ghost), expected)


def test_both_ways_are_taken(monkeypatch):
    taken = []

    def spy(*args):
        taken.append(args[-1])
        return _view_gram_chunk(*args)

    monkeypatch.setattr("lightning_ssl_theory.operators.weight_maps._view_gram_chunk", spy)
    for build, shape in (
        (lambda: nn.Linear(64, 64), (64,)),
        (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 8, 8)),
    ):
        view_gram(*case(build, shape), NUM_VIEWS)
    assert taken == [True, False]


@pytest.mark.parametrize(("build", "shape"), CASES)
def test_weight_map_is_the_layer_without_its_bias(build, shape):
    layer, inputs, _ = case(build, shape)
    bias = layer.bias
    expected = layer(inputs)
    if bias is not None:
        trailing = 0 if isinstance(layer, nn.Linear) else inputs.ndim - 2
        expected = expected - bias.reshape(-1, *[1] * trailing)
    linear = weight_map(layer)
    assert_close(linear(layer.weight, inputs), expected)
    other = torch.randn_like(layer.weight)
    assert_close(linear(2 * layer.weight - other, inputs), 2 * expected - linear(other, inputs))


def test_patches_of_a_convolution_are_what_its_positions_see():
    layer = nn.Conv1d(1, 1, 2, bias=False)
    seen = patches(layer, torch.tensor([[[1.0, 2.0, 3.0]]]))
    assert seen.tolist() == [[[[1.0, 2.0], [2.0, 3.0]]]]


def test_rejects_other_layers():
    with pytest.raises(TypeError, match="Expected a layer of type Linear, Conv1d or Conv2d, got Conv3d"):
        weight_map(nn.Conv3d(1, 1, 1))
