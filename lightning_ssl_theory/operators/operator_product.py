r"""Products OP v of one layer's plug-in operator, from one forward derivative and one backward pass.

K^T v is the derivative of the outputs along v, and OP v = sum_s K_s c_s with c the cotangents of its covariance, so
that no probe is needed and nothing is stored but the network's own graph.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_ssl_theory.distributed import AllSum
from lightning_ssl_theory.operators.output_cotangents import covariance_cotangents
from lightning_ssl_theory.tracing.chunked_trace import ChunkedTrace
from lightning_ssl_theory.tracing.network_trace import NetworkTrace


class OperatorProduct:
    """OP v as a function of v, of the weight's shape.

    Args:
        trace: This rank's views.
        name: The layer's path.
        all_sum: Sum over ranks; a product moves n_L + P numbers.
    """

    def __init__(self, trace: ChunkedTrace, name: str, *, all_sum: AllSum) -> None:
        self._trace, self._name, self._all_sum = trace, name, all_sum
        self._derivative = None if trace.whole is None else output_derivative(trace.whole, name)

    def __call__(self, vector: Tensor) -> Tensor:
        """OP v. Two backward passes above the layer and one more through it; with chunks three and two forward."""
        scores = self._trace.map(
            lambda chunk: (self._derivative or output_derivative(chunk, self._name))(vector)
        )
        outputs = torch.cat(scores).unflatten(0, self._trace.outputs.shape[:2])
        cotangents = covariance_cotangents(outputs, estimator="plugin", all_sum=self._all_sum)
        found = self._trace.map(
            lambda chunk, own: chunk.weight_gradients(own.flatten(0, 1), [self._name])[self._name], cotangents
        )
        return self._all_sum(torch.stack(found).sum(0))


def output_derivative(trace: NetworkTrace, name: str) -> Callable[[Tensor], Tensor]:
    """K_s^T v of every view, (S, n_L), as a function of v, of the shape of the layer's weight.

    The pull-back of a cotangent is linear in it; differentiating it once more pushes a change of the layer's output
    forward, with nothing but backward passes.

    Args:
        trace: A forward pass.
        name: The layer's path.

    Returns:
        The function. One backward pass above the layer now, one for each call.
    """
    seen = trace.layers[name]
    cotangent = torch.zeros_like(trace.outputs).requires_grad_()
    with trace.again():
        (pulled,) = torch.autograd.grad(trace.outputs, seen.outputs, cotangent, create_graph=True)

    def derivative(vector: Tensor) -> Tensor:
        change = seen.change(vector)
        with trace.again():
            (found,) = torch.autograd.grad(pulled, cotangent, change, retain_graph=True)
        return found

    return derivative
