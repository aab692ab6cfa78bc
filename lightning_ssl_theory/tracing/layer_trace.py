"""What one layer saw of each sample, whichever axis the samples lie along."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.tracing.layer_kinds import LayerKind
from lightning_ssl_theory.tracing.recorded_pass import Passage
from lightning_ssl_theory.tracing.row_layout import RowLayout


class LayerWeight(NamedTuple):
    """A layer without what it saw.

    Attributes:
        weight: The layer's weight, detached.
        kind: The layer as a linear map of its weight.
    """

    weight: Tensor
    kind: LayerKind


class LayerTrace(NamedTuple):
    """What one layer saw of S samples in a forward pass.

    Attributes:
        weight: The layer's weight, detached.
        bias: What it adds, detached, or `None`.
        kind: The layer as a linear map of its weight.
        inputs: What the weight multiplied, detached: its input, of a normalisation the input normalised.
        outputs: What came out, in the graph.
        layout: Where samples lie in both.
    """

    weight: Tensor
    bias: Tensor | None
    kind: LayerKind
    inputs: Tensor
    outputs: Tensor
    layout: RowLayout

    @property
    def linear_outputs(self) -> Tensor:
        """The outputs without the bias, detached: the part that is linear in the weight."""
        outputs = self.outputs.detach()
        if self.bias is None:
            return outputs
        return outputs - self.kind.per_output(self.bias.to(outputs.dtype), outputs.ndim)

    def patches(self) -> Tensor:
        """What each output position saw, (S, G, F, L); see `LayerKind.patches`."""
        return self._by_sample(self.kind.patches(self._samples_first(self.inputs)))

    def cotangents(self, deltas: Tensor) -> Tensor:
        """Gradients with respect to the outputs, of their shape, as (S, G, O, L)."""
        return self._by_sample(self.kind.cotangents(self._samples_first(deltas)))

    def sample_gradients(self, deltas: Tensor) -> Tensor:
        """Per-sample gradients of `<delta, z>` with respect to the weight: (S, P), in the order of `reshape(-1)`."""
        return self.kind.flat(self.cotangents(deltas) @ self.patches().mT)

    def weight_gradient(self, deltas: Tensor) -> Tensor:
        """The same summed over samples, (P,), without a row a sample."""
        return self.kind.flat(torch.einsum("sgol,sgfl->gof", self.cotangents(deltas), self.patches()))

    def change(self, direction: Tensor) -> Tensor:
        """How the outputs move as the weight moves along a direction of its shape; of the outputs' shape."""
        return self.kind.apply(direction.to(self.inputs), self.inputs)

    def sample_products(self, deltas: Tensor, change: Tensor) -> Tensor:
        """Products of a direction with each sample's gradient, (S,), from the change that it makes of the outputs."""
        products = self._samples_first(deltas * change)
        return products.reshape(len(products) // self.layout.factor, -1).sum(1)

    def weighted(self, deltas: Tensor, factors: Tensor) -> Tensor:
        """What came back, times a factor (S,) for each sample; of the outputs' shape."""
        repeated = factors.repeat_interleave(self.layout.factor)
        return deltas * repeated.reshape(-1, *[1] * (deltas.ndim - 1 - self.layout.axis))

    def _samples_first(self, values: Tensor) -> Tensor:
        return values.movedim(self.layout.axis, 0)

    def _by_sample(self, factor: Tensor) -> Tensor:  # (S k, G, F, L) -> (S, G, F, k L)
        if self.layout.factor == 1:
            return factor
        return factor.unflatten(0, (-1, self.layout.factor)).movedim(1, -2).flatten(-2)


def layer_trace(passage: Passage, layout: RowLayout) -> LayerTrace:
    """What a layer saw, from its passage."""
    use, outputs = passage
    bias = None if use.bias is None else use.bias.detach()
    return LayerTrace(use.weight.detach(), bias, use.kind, use.inputs, outputs, layout)
