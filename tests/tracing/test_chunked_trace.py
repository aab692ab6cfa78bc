"""Chunks of samples give what one pass gives."""

import weakref

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
    assert trace.num_chunks == num_chunks == len(trace.map(id))
    assert set(trace.layers) == set(whole.layers)
    assert_close(trace.outputs.flatten(0, 1), whole.outputs)
    assert not trace.outputs.requires_grad
    assert_close(torch.cat(trace.map(lambda chunk: chunk.outputs.detach())), whole.outputs)
    cotangents = torch.randn_like(trace.outputs)
    expected = whole.backward(cotangents.flatten(0, 1))
    pieces = trace.map(lambda chunk, own: chunk.backward(own.flatten(0, 1)), cotangents)
    for name, delta in expected.items():
        assert_close(torch.cat([piece[name] for piece in pieces]), delta)
        inputs = trace.map(lambda chunk, name=name: chunk.layers[name].inputs)
        assert_close(torch.cat(inputs), whole.layers[name].inputs)


def test_no_trace_is_held_while_the_next_one_is_made():
    model, views = residual_net(), draw_views(IMAGE_SHAPE)
    trace = ChunkedTrace(model, views, memory_budget=2 * least_budget(model, views))
    traces, is_held = [], []

    def look(images):
        is_held.append([seen() is not None for seen in traces])
        return images

    with torch.nn.modules.module.register_module_forward_pre_hook(lambda _, args: look(*args)):
        trace.map(lambda chunk: traces.append(weakref.ref(chunk.outputs)))
    assert len(traces) == 3
    assert len(is_held) > 3
    assert not any(map(any, is_held))


def test_statistics_of_a_chunk_alone_would_differ():
    model, views = residual_net(), draw_views(IMAGE_SHAPE)
    whole, part = trace_network(model, views.flatten(0, 1)), trace_network(model, views[:2].flatten(0, 1))
    assert not torch.allclose(whole.outputs[:4], part.outputs, rtol=1e-2)


def test_the_budget_counts_columns_and_size():
    model, views = residual_net(), draw_views(IMAGE_SHAPE)
    one = least_budget(model, views, num_columns=8)  # one column is all that has to fit
    sent = sum(seen.outputs.nbytes for seen in trace_network(model, views[0]).layers.values())
    for extra, num_columns in (
        (0, 1),
        (sent - 1, 1),
        (sent, 2),
        (7 * sent - 1, 7),
        (7 * sent, 8),
        (99 * sent, 8),
    ):
        trace = ChunkedTrace(model, views, num_columns=8, memory_budget=one + extra)
        assert trace.num_columns == num_columns
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
    message = r"holds one sample, \d+ bytes here, got 7; raise it"
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


def test_weights_are_the_network_s_own_memory():
    model, views = residual_net(), draw_views(IMAGE_SHAPE)
    trace = ChunkedTrace(model, views)
    for name, layer in trace.layers.items():
        own = model.get_parameter(f"{name}.weight")
        assert layer.weight.data_ptr() == own.data_ptr()
        assert not layer.weight.requires_grad
