r"""What the scalars of a covariance operator need of a batch: sums over samples, which chunks and ranks add up.

With K_ia the connection of view a of sample i, u_c a probe, phi_k a random weight vector and f the network's output.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.distributed import AllSum
from lightning_ssl_theory.tracing.layer_trace import LayerTrace
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


class CovarianceSums(NamedTuple):
    """Sums over the samples of a batch for one layer, additive over chunks and ranks; a row for each of m probes.

    Attributes:
        gradients: Moments of K u_c, with inner products: (m,), (m,), and the vectors (m, P).
        sketches: Moments of phi_k . K u_c, with outer products: (m, r, r), (m, r, r), (m, r).
        remainders: Moments of u_c . (K^T w - f): (m,) each.
    """

    gradients: Moments
    sketches: Moments
    remainders: Moments

    def plus(self, other: "CovarianceSums") -> "CovarianceSums":
        """Sums of two disjoint sets of samples."""
        return _mapped(torch.add, self, other)

    def over_ranks(self, all_sum: AllSum) -> "CovarianceSums":
        """Sums of all ranks' samples; m weight gradients and 2 m r^2 numbers cross."""
        return _mapped(all_sum, self)


def layer_sums(
    seen: LayerTrace, deltas: Sequence[Tensor], outputs: Tensor, probes: Tensor, directions: WeightDirections
) -> CovarianceSums:
    """Sums of one chunk for one layer.

    Args:
        seen: What the layer saw of n samples with A views.
        deltas: For each of m probes the gradients with respect to the layer's output, (n A, ...).
        outputs: What the network put out, (n, A, n_L).
        probes: (m, n_L).
        directions: r random weight vectors.

    Returns:
        The sums, in float64 but for the weight gradients.
    """
    num_views, linear_outputs = outputs.shape[1], seen.linear_outputs
    factors = GradientFactors(seen, num_views, directions, num_cotangents=len(probes))
    found = []
    for delta, probe in zip(deltas, probes, strict=True):
        gram, total, sketch = factors.products(delta)
        # w . K_s u, since a layer is linear in its weight
        scores = seen.sample_products(delta, linear_outputs).unflatten(0, (-1, num_views))
        found.append(
            CovarianceSums(
                Moments(
                    gram.double().sum() / num_views**2,
                    gram.diagonal(dim1=1, dim2=2).double().sum() / num_views,
                    total / num_views,
                ),
                _outer_moments(sketch.double()),
                _moments(scores.double() - (outputs @ probe).double()),
            )
        )
    return _mapped(lambda *values: torch.stack(values), *found)


def _moments(values: Tensor) -> Moments:  # (n, A)
    means = values.mean(1)
    return Moments(means.square().sum(), values.square().mean(1).sum(), means.sum())


def _outer_moments(values: Tensor) -> Moments:  # (n, A, r)
    means, views = values.mean(1), values.flatten(0, 1)
    return Moments(means.mT @ means, views.mT @ views / values.shape[1], means.sum(0))


def _mapped(function: Callable[..., Tensor], *trees: Any) -> Any:
    if isinstance(trees[0], Tensor):
        return function(*trees)
    return type(trees[0])(*(_mapped(function, *leaves) for leaves in zip(*trees, strict=True)))
