"""Chunks of samples give what one pass gives."""

import pytest
import torch
from helpers.small_networks import IMAGE_SHAPE, biased_mlp, draw_views, residual_net
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.tracing import trace_network
from lightning_ssl_theory.tracing.chunked_trace import ChunkedTrace


def least_budget(model, views, **arguments):
    """The bytes of one sample, from the sentence that refuses a budget of nothing."""
    with pytest.raises(ValueError, match="Expected a `memory_budget` that holds one sample") as caught:
        ChunkedTrace(model, views, memory_budget=0, **arguments)
    return int(str(caught.value).split("one sample, ")[1].split(" ")[0])


@pytest.mark.parametrize(("num_held", "num_chunks"), [(1, 5), (2, 3), (4, 2), (5, 1), (100, 1)])
def test_chunks_cover_the_samples_in_order(num_held, num_chunks):
    model, views = residual_net(), draw_views(IMAGE_SHAPE)
    budget = num_held * least_budget(model, views)
    trace = ChunkedTrace(model, views, memory_budget=budget)
    whole = trace_network(model, views.flatten(0, 1))
    assert trace.num_chunks == num_chunks == len(list(trace))
    assert set(trace.layers) == set(whole.layers)
    assert_close(trace.outputs.flatten(0, 1), whole.outputs)
    assert not trace.outputs.requires_grad
    assert_close(torch.cat([chunk.outputs for chunk in trace]), whole.outputs)
    cotangents = torch.randn_like(trace.outputs)
    expected = whole.backward(cotangents.flatten(0, 1))
    pieces = [
        chunk.backward(own.flatten(0, 1)) for chunk, own in zip(trace, trace.split(cotangents), strict=True)
    ]
    for name, delta in expected.items():
        assert_close(torch.cat([piece[name] for piece in pieces]), delta)
        assert_close(torch.cat([chunk.layers[name].inputs for chunk in trace]), whole.layers[name].inputs)


def test_statistics_of_a_chunk_alone_would_differ():
    model, views = residual_net(), draw_views(IMAGE_SHAPE)
    whole, part = trace_network(model, views.flatten(0, 1)), trace_network(model, views[:2].flatten(0, 1))
    assert not torch.allclose(whole.outputs[:4], part.outputs, rtol=1e-2)


def test_the_budget_counts_columns_and_size():
    model, views = residual_net(), draw_views(IMAGE_SHAPE)
    one, eight = (least_budget(model, views, num_columns=m) for m in (1, 8))
    sent = sum(seen.outputs.nbytes for seen in trace_network(model, views[0]).layers.values())
    assert eight - one == 7 * sent
    assert least_budget(model, views.float()) < 0.6 * one
    assert least_budget(model, views, layers=["head"]) < one
    assert least_budget(model, torch.cat([views, views])) == one


def test_the_budget_is_about_what_a_graph_holds():
    """At least the inputs and outputs of every traced layer, at most a few times that."""
    model, views = residual_net(), draw_views(IMAGE_SHAPE)
    seen = trace_network(model, views[0]).layers.values()
    held = sum(layer.inputs.nbytes + layer.outputs.nbytes for layer in seen)
    assert held < least_budget(model, views) < 10 * held


def test_refuses_what_does_not_fit():
    message = r"holds one sample, \d+ bytes here, got 7; raise it, or lower `num_probes`"
    with pytest.raises(ValueError, match=message):
        ChunkedTrace(biased_mlp(), draw_views((5,)), memory_budget=7)


@pytest.mark.parametrize("held", [1, 100])
def test_refuses_outputs_that_are_not_finite_or_no_matrix(held):
    model, views = biased_mlp(), draw_views((5,))
    budget = held * least_budget(model, views)
    views[4, 1, 0] = torch.inf
    message = "Expected finite network outputs, found NaN or infinity; lower the learning rate"
    with pytest.raises(ValueError, match=message):
        ChunkedTrace(model, views, memory_budget=budget)
    with pytest.raises(ValueError, match=r"of shape \(N, D\), for \d+ inputs .*, got \(\d+, 1, 3\)"):
        ChunkedTrace(nn.Sequential(model, nn.Unflatten(1, (1, 3))), views, memory_budget=budget)
