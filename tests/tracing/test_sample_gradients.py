"""Per-sample gradients and their products, both ways, against one backward pass a sample."""

import pytest
import torch
from helpers.small_networks import DENSE_LAYERS, F64, NORM_LAYERS, built
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.tracing.network_trace import trace_network
from lightning_ssl_theory.tracing.sample_gradients import GradientFactors
from lightning_ssl_theory.tracing.weight_directions import WeightDirections

NUM_SAMPLES, NUM_VIEWS, NUM_SKETCHES = 3, 2, 5
ALL_LAYERS = DENSE_LAYERS + NORM_LAYERS


def case(build, shape, zero_weight=False):
    """A layer, its inputs, cotangents of its outputs, and what a trace says that it saw."""
    layer = built(build).eval()
    if zero_weight:
        nn.init.zeros_(layer.weight)
    inputs = torch.randn(NUM_SAMPLES * NUM_VIEWS, *shape, dtype=F64)
    network = nn.Sequential(layer, nn.Flatten())
    seen = trace_network(network, inputs, ["0"]).layers["0"]
    return layer, inputs, torch.randn_like(layer(inputs)), seen


def gradients_loop(layer, inputs, deltas):
    """One backward pass a view through the layer itself, (S, P)."""
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


def dense_directions(directions, layer):
    """The vectors left * right in the order of the weight, (P, r)."""
    products = [
        torch.stack([torch.outer(a, b) for a, b in zip(left, right, strict=True)])
        for left, right in zip(directions.left, directions.right, strict=True)
    ]
    return torch.stack([product.reshape(layer.weight.numel()) for product in products], dim=1)


def test_oracle_by_hand():
    # z = w . h, delta = 2: the gradient is 2 h
    layer, inputs = nn.Linear(2, 1), torch.tensor([[1.0, 3.0], [0.0, 1.0]])
    rows = gradients_loop(layer, inputs, torch.full((2, 1), 2.0))
    assert rows.tolist() == [[2.0, 6.0], [0.0, 2.0]]


@pytest.mark.parametrize("zero_weight", [False, True], ids=["", "zero-weight"])
@pytest.mark.parametrize(("build", "shape"), ALL_LAYERS)
def test_gradients_and_products_both_ways(build, shape, zero_weight):
    layer, inputs, deltas, seen = case(build, shape, zero_weight)
    rows = gradients_loop(layer, inputs, deltas)
    assert rows.norm() > 0
    assert_close(seen.sample_gradients(deltas), rows)

    directions = WeightDirections(seen.kind, NUM_SKETCHES, seed=3, like=inputs)
    factors = GradientFactors(seen, NUM_VIEWS, directions)
    sent, grams = seen.cotangents(deltas), grams_loop(rows)
    for found in (factors._materialised(sent), factors._ghost(sent)):
        assert_close(found.gram, grams)
        assert_close(found.total, sum(rows))
        assert_close(found.sketch.flatten(0, 1), rows @ dense_directions(directions, layer))
    assert_close(factors.products(deltas).gram, grams)
    second = torch.randn_like(deltas)  # what is kept for the first cotangent serves the second
    total = factors._ghost(seen.cotangents(second)).total
    assert_close(total, sum(gradients_loop(layer, inputs, second)))


def test_the_cheaper_way_is_taken(monkeypatch):
    taken = []
    for way in ("_ghost", "_materialised"):
        call = getattr(GradientFactors, way)

        def spy(self, sent, way=way, call=call):
            taken.append(way)
            return call(self, sent)

        monkeypatch.setattr(GradientFactors, way, spy)
    for build, shape in (
        (lambda: nn.Linear(64, 64), (64,)),
        (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 8, 8)),
    ):
        _, inputs, deltas, seen = case(build, shape)
        directions = WeightDirections(seen.kind, NUM_SKETCHES, seed=3, like=inputs)
        GradientFactors(seen, NUM_VIEWS, directions).products(deltas)
    assert taken == ["_ghost", "_materialised"]


def test_more_cotangents_share_the_ghosts_kernel():
    """What the positions see is multiplied once; with many cotangents ghost becomes the cheaper way."""
    _, inputs, _, seen = case(lambda: nn.Conv2d(16, 2, 3), (16, 4, 4))
    assert seen.kind.grouped_shape == (1, 2, 144)
    directions = WeightDirections(seen.kind, NUM_SKETCHES, seed=3, like=inputs)
    for num_cotangents, is_ghost in ((1, False), (8, True)):
        # (2 views x 4 positions)^2 (2 + 144 / m) against 8 x 2 views x 144 x 2: 9344 and 1280 against 4608
        factors = GradientFactors(seen, NUM_VIEWS, directions, num_cotangents=num_cotangents)
        assert factors.is_ghost_cheaper(2) == is_ghost
