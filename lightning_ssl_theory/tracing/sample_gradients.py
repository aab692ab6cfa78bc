r"""Sums and inner products of per-sample gradients of one layer, from their two factors.

A per-sample gradient is a sum over output positions, `g = sum_p delta_p h_p^T`. Products of gradients follow either
from the gradients themselves ("materialised") or from products of the factors at all pairs of positions ("ghost"):

.. math:: \langle g, g'\rangle = \sum_{pq} (\delta_p\cdot\delta'_q)(h_p\cdot h'_q)

References: G. Rochette, A. Manoel, E. Tramel, "Efficient per-example gradient computations in convolutional neural
networks", 2019; X. Li, F. Tramèr, P. Liang, T. Hashimoto, "Large language models can be strong differentially private
learners", 2022 (the ghost norm).
"""

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.tracing.layer_trace import LayerTrace
from lightning_ssl_theory.tracing.weight_directions import WeightDirections

MEMORY_COST = 8
"""Multiplications in the time of which one number is written and read again."""


class GradientProducts(NamedTuple):
    """Products of the gradients g_ia of the A views of n samples, for one cotangent of every view.

    Attributes:
        gram: <g_ia, g_ib>, (n, A, A).
        total: Sum of g_ia over samples and views, (P,).
        sketch: <g_ia, phi_k> for r random weight vectors, (n, A, r).
    """

    gram: Tensor
    total: Tensor
    sketch: Tensor


class GradientFactors:
    """What one layer saw of the views of n samples, ready to be multiplied with what comes back.

    Args:
        seen: What it saw of n A rows, the views of a sample next to each other.
        num_views: A.
        directions: The random weight vectors.
        num_cotangents: How often `products` will be called, for the choice of the cheaper way.
    """

    def __init__(
        self,
        seen: LayerTrace,
        num_views: int,
        directions: WeightDirections,
        *,
        num_cotangents: int = 1,
    ) -> None:
        self._trace, self._num_views, self._directions = seen, num_views, directions
        self._seen = seen.patches()  # (n A, G, F, L)
        self._num_cotangents = num_cotangents

    def products(self, delta: Tensor) -> GradientProducts:
        """Everything that scalars need, by the cheaper way.

        Args:
            delta: Gradients with respect to the layer's output, (n A, ...).

        Returns:
            The products. Time O(n A L O F) for L positions, O outputs and F inputs of an output in each group.
        """
        sent = self._trace.cotangents(delta)  # (n A, G, O, L)
        return self._ghost(sent) if self.is_ghost_cheaper(sent.shape[2]) else self._materialised(sent)

    def is_ghost_cheaper(self, fan_out: int) -> bool:
        """Whether products at all pairs of positions cost less than writing the gradients down."""
        fan_in, positions = self._seen.shape[2:]
        size = self._num_views * positions
        by_positions = size * size * (fan_out + fan_in / self._num_cotangents)
        return by_positions < MEMORY_COST * self._num_views * fan_in * fan_out

    def _materialised(self, sent: Tensor) -> GradientProducts:
        # as many samples at once as keep their gradients no larger than what the layer saw
        rows_at_once = max(1, len(sent) * self._seen.shape[3] // sent.shape[2])
        size = max(1, rows_at_once // self._num_views) * self._num_views
        parts = [
            self._written_down(own @ seen.mT)
            for own, seen in zip(sent.split(size), self._seen.split(size), strict=True)
        ]
        grams, totals, sketches = zip(*parts, strict=True)
        return GradientProducts(torch.cat(grams), torch.stack(totals).sum(0), torch.cat(sketches))

    def _written_down(self, gradients: Tensor) -> GradientProducts:  # (n A, G, O, F)
        views = gradients.flatten(1).unflatten(0, (-1, self._num_views))
        projected = torch.einsum("sgof,rgf->sgor", gradients, self._directions.right)
        sketch = (projected * self._directions.left.permute(1, 2, 0)).sum((1, 2))
        total = gradients.sum(0).flatten()
        return GradientProducts(views @ views.mT, total, sketch.unflatten(0, (-1, self._num_views)))

    def _ghost(self, sent: Tensor) -> GradientProducts:
        positions = self._seen.shape[3]
        kernel = (self._seen_kernel * self._kernel(sent)).sum(1)  # (n, A L, A L)
        views = kernel.unflatten(2, (-1, positions)).unflatten(1, (-1, positions)).sum((2, 4))
        projected = torch.einsum("rgo,sgol->sgrl", self._directions.left, sent)
        sketch = (projected * self._seen_projected).sum((1, 3)).unflatten(0, (-1, self._num_views))
        total = sent.permute(1, 2, 0, 3).flatten(2) @ self._seen_positions
        return GradientProducts(views, total.flatten(), sketch)

    @cached_property
    def _seen_kernel(self) -> Tensor:
        return self._kernel(self._seen)

    @cached_property
    def _seen_projected(self) -> Tensor:
        return torch.einsum("rgf,sgfl->sgrl", self._directions.right, self._seen)

    @cached_property
    def _seen_positions(self) -> Tensor:
        return self._seen.permute(1, 0, 3, 2).flatten(1, 2)  # (G, n A L, F)

    def _kernel(self, factor: Tensor) -> Tensor:
        # products of a factor at all pairs of positions of a sample's views: (n A, G, F, L) -> (n, G, A L, A L)
        joined = factor.unflatten(0, (-1, self._num_views)).movedim(1, -2).flatten(-2)
        return joined.mT @ joined
