r"""The connections K of one layer: the transposed per-sample Jacobian of the output, kept as factors.

Column u of K for a view s is the gradient of <u, f_L(x_s)> with respect to the layer's weight. It is held as what
the layer saw and what came back, never as a vector of P weights.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Definition 1.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lightning_ssl_theory.tracing.layer_kinds import cotangents, patches, weight_map
from lightning_ssl_theory.tracing.sample_gradients import sample_gradients


class Connections:
    """K u_1, …, K u_m of S views, as a linear map with its transpose.

    Args:
        layer: A supported layer.
        inputs: What the layer saw, (S, ...).
        deltas: Gradients of <u_c, f_L> with respect to the layer's output, (m, S, ...).
    """

    def __init__(self, layer: nn.Module, inputs: Tensor, deltas: Tensor) -> None:
        self._layer, self._inputs, self._deltas = layer, inputs, deltas
        self.num_probes, self.num_views = deltas.shape[:2]
        self._weight_shape = layer.get_parameter("weight").shape
        self.num_weights = self._weight_shape.numel()

    def scores(self, vector: Tensor) -> Tensor:
        """<K_s u_c, v> for every view s and probe c: (P,) -> (S, m). Cost of m products with the output."""
        outputs = weight_map(self._layer)(vector.reshape(self._weight_shape), self._inputs)
        return torch.stack([(delta * outputs).flatten(1).sum(1) for delta in self._deltas], dim=1)

    def combine(self, coefficients: Tensor) -> Tensor:
        """sum_sc coefficients_sc K_s u_c: (S, m) -> (P,). Cost of one gradient of the layer's weight."""
        delta = torch.einsum("sm,ms...->s...", coefficients, self._deltas)
        seen, sent = patches(self._layer, self._inputs), cotangents(self._layer, delta)
        return torch.einsum("sgol,sgfl->gof", sent, seen).reshape(-1)

    def rows(self) -> Iterator[Tensor]:
        """For each probe c the gradients K_s u_c of all views, (S, P)."""
        for delta in self._deltas:
            yield sample_gradients(self._layer, self._inputs, delta)
