r"""What the scalars of a covariance operator need of a batch: sums over samples, which chunks and ranks add up.

With K_ia the connection of view a of sample i, u_c a probe, phi_k a random weight vector and f the network's output.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.distributed import AllSum
from lightning_ssl_theory.tracing.layer_trace import LayerTrace, LayerWeight
from lightning_ssl_theory.tracing.sample_gradients import GradientFactors
from lightning_ssl_theory.tracing.weight_directions import WeightDirections


class Moments(NamedTuple):
    """Sums over samples of one quantity q_ia of the views, with bar q_i its mean over the views of a sample.

    Attributes:
        of_means: Sum over samples of the product of bar q_i with itself.
        of_views: Sum over samples of the mean over views of the product of q_ia with itself.
        total: Sum over samples of bar q_i.
    """

    of_means: Tensor
    of_views: Tensor
    total: Tensor

    def of_probes(self, rows: slice) -> "Moments":
        """The rows of some probes, of the same memory."""
        return Moments(*(part[rows] for part in self))


class CovarianceSums(NamedTuple):
    """Sums over the samples of a batch for one layer, additive over chunks and ranks; a row for each of m probes.

    Attributes:
        gradients: Moments of K u_c, with inner products: (m,), (m,), and the vectors (m, P).
        sketches: Moments of phi_k . K u_c, with outer products: (m, r, r), (m, r, r), (m, r).
        remainders: Moments of u_c . (K^T w - f): (m,) each.
        pulled: Sums of K c for further cotangents c, (c, *weight).
    """

    gradients: Moments
    sketches: Moments
    remainders: Moments
    pulled: Tensor

    def of_probes(self, rows: slice) -> "CovarianceSums":
        """The rows of some probes, of the same memory."""
        gradients, sketches, remainders, pulled = self
        return CovarianceSums(
            gradients.of_probes(rows), sketches.of_probes(rows), remainders.of_probes(rows), pulled
        )


class BatchSums:
    """Sums of every layer, all in two buffers, so that they cross ranks together and are held once.

    Args:
        layers: Their weights.
        num_probes: m.
        num_sketches: r.
        num_pulled: Further cotangents c.
        like: A tensor of the type and device of weight gradients; everything else is float64.

    Attributes:
        layers: Zero at first, parts of the buffers.
    """

    def __init__(
        self,
        layers: Mapping[str, LayerWeight],
        *,
        num_probes: int,
        num_sketches: int,
        num_pulled: int,
        like: Tensor,
    ) -> None:
        m, r, sizes = num_probes, num_sketches, [layer.weight.numel() for layer in layers.values()]
        shapes = [(m,), (m,), (m, r, r), (m, r, r), (m, r), (m,), (m,), (m,)]
        lengths = [torch.Size(shape).numel() for shape in shapes]
        self._numbers = like.new_zeros(len(layers) * sum(lengths), dtype=torch.float64)
        self._vectors = like.new_zeros((m + num_pulled) * sum(sizes))
        parts = iter(self._numbers.split(lengths * len(layers)))
        vectors = iter(self._vectors.split([n * size for size in sizes for n in (m, num_pulled)]))
        self.layers: dict[str, CovarianceSums] = {}
        for name, layer in layers.items():
            norms, views, outer, outer_views, totals, *remainders = (
                next(parts).view(shape) for shape in shapes
            )
            self.layers[name] = CovarianceSums(
                Moments(norms, views, next(vectors).view(m, -1)),
                Moments(outer, outer_views, totals),
                Moments(*remainders),
                next(vectors).view(num_pulled, *layer.weight.shape),
            )

    def over_ranks(self, all_sum: AllSum) -> None:
        """Sum over ranks; the numbers and the weight gradients of all layers cross once each."""
        for buffer in (self._numbers, self._vectors):
            buffer.copy_(all_sum(buffer))


def add_samples(
    sums: CovarianceSums,
    seen: LayerTrace,
    deltas: Sequence[Tensor],
    outputs: Tensor,
    probes: Tensor,
    directions: WeightDirections,
) -> None:
    """Take a chunk of samples into one layer's sums, but for `pulled`.

    Args:
        sums: Of the layer.
        seen: What the layer saw of n samples with A views.
        deltas: For each of m probes the gradients with respect to the layer's output, (n A, ...).
        outputs: What the network put out, (n, A, n_L).
        probes: (m, n_L).
        directions: r random weight vectors.
    """
    num_views, linear_outputs = outputs.shape[1], seen.linear_outputs
    factors = GradientFactors(seen, num_views, directions, num_cotangents=len(probes))
    for index, (delta, probe) in enumerate(zip(deltas, probes, strict=True)):
        gram, total, sketch = factors.products(delta)
        of_views = gram.diagonal(dim1=1, dim2=2).double().sum() / num_views
        _add(sums.gradients, index, Moments(gram.double().sum() / num_views**2, of_views, total / num_views))
        _add(sums.sketches, index, _outer_moments(sketch.double()))
        # w . K_s u, since a layer is linear in its weight
        scores = seen.sample_products(delta, linear_outputs).unflatten(0, (-1, num_views))
        _add(sums.remainders, index, _moments(scores.double() - (outputs @ probe).double()))


def _add(sums: Moments, index: int, own: Moments) -> None:
    for total, value in zip(sums, own, strict=True):
        total[index] += value


def _moments(values: Tensor) -> Moments:  # (n, A)
    means = values.mean(1)
    return Moments(means.square().sum(), values.square().mean(1).sum(), means.sum())


def _outer_moments(values: Tensor) -> Moments:  # (n, A, r)
    means, views = values.mean(1), values.flatten(0, 1)
    return Moments(means.mT @ means, views.mT @ views / values.shape[1], means.sum(0))
