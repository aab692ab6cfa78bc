"""Products OP v from one forward derivative and one backward pass, against the dense operator."""

import pytest
import torch
from helpers.dense_operator import connections_loop, plugin_loop
from helpers.small_networks import IMAGE_SHAPE, biased_mlp, draw_views, held_copy, residual_net
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.distributed import identity
from lightning_ssl_theory.operators import trace_network
from lightning_ssl_theory.operators.operator_product import OperatorProduct, output_derivative
from lightning_ssl_theory.tracing.chunked_trace import ChunkedTrace


def test_derivative_is_the_transposed_connection():
    model, views = biased_mlp(), draw_views((5,))
    trace = trace_network(model, views.flatten(0, 1))
    for name in trace.layers:
        weight = model.get_submodule(name).weight
        vector = torch.randn_like(weight)
        expected = torch.einsum("napl,p->nal", connections_loop(model, views, name), vector.reshape(-1))
        assert_close(output_derivative(trace, name)(vector).unflatten(0, (5, 2)), expected)


@pytest.mark.parametrize("budget", [2**30, 60_000], ids=["whole", "chunks"])
def test_equals_the_dense_operator_at_every_layer(budget):
    model, views = residual_net(), draw_views(IMAGE_SHAPE)
    held = held_copy(model, views.flatten(0, 1))
    trace = ChunkedTrace(model, views, [nn.Module], memory_budget=budget)
    assert (trace.num_chunks > 1) == (budget < 2**30)
    for name, layer in trace.layers.items():
        dense = plugin_loop(connections_loop(held, views, name))
        product = OperatorProduct(trace, name, all_sum=identity)
        for _ in range(2):  # the graph serves again
            vector = torch.randn_like(layer.weight)
            assert_close(product(vector).reshape(-1), dense @ vector.reshape(-1))
