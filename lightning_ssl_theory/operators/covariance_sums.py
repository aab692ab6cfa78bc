r"""What the scalars of a covariance operator need of a batch: sums over samples, which chunks and ranks add up.

With K_ia the connection of view a of sample i, u_c a probe, phi_k a random weight vector and f the network's output.
"""

from collections.abc import Callable, Mapping, Sequence
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
        pulled: Sums of K c for further cotangents c, (c, *weight).
    """

    gradients: Moments
    sketches: Moments
    remainders: Moments
    pulled: Tensor

    def add(self, other: "CovarianceSums") -> None:
        """Take further samples in."""
        _mapped(torch.Tensor.add_, self, other)


def layer_sums(
    seen: LayerTrace,
    deltas: Sequence[Tensor],
    outputs: Tensor,
    probes: Tensor,
    directions: WeightDirections,
    pulled: Sequence[Tensor],
) -> CovarianceSums:
    """Sums of one chunk for one layer.

    Args:
        seen: What the layer saw of n samples with A views.
        deltas: For each of m probes the gradients with respect to the layer's output, (n A, ...).
        outputs: What the network put out, (n, A, n_L).
        probes: (m, n_L).
        directions: r random weight vectors.
        pulled: The layer's weight gradients of further cotangents.

    Returns:
        The sums, in float64 but for the weight gradients.
    """
    num_views, linear_outputs = outputs.shape[1], seen.linear_outputs
    factors = GradientFactors(seen, num_views, directions, num_cotangents=len(probes))
    rows = []
    for delta, probe in zip(deltas, probes, strict=True):
        gram, total, sketch = factors.products(delta)
        # w . K_s u, since a layer is linear in its weight
        scores = seen.sample_products(delta, linear_outputs).unflatten(0, (-1, num_views))
        of_views = gram.diagonal(dim1=1, dim2=2).double().sum() / num_views
        products = Moments(gram.double().sum() / num_views**2, of_views, total / num_views)
        remainder = _moments(scores.double() - (outputs @ probe).double())
        rows.append((products, _outer_moments(sketch.double()), remainder))
    gradients, sketches, remainders = (
        _mapped(lambda *values: torch.stack(values), *column) for column in zip(*rows, strict=True)
    )
    further = torch.stack([*pulled]) if pulled else seen.weight.new_zeros(0, *seen.weight.shape)
    return CovarianceSums(gradients, sketches, remainders, further)


def over_ranks(sums: Mapping[str, CovarianceSums], all_sum: AllSum) -> dict[str, CovarianceSums]:
    """Sums of all ranks' samples; those of all layers cross together, in one buffer for each floating type."""
    leaves = [leaf for own in sums.values() for leaf in _leaves(own)]
    summed: dict[int, Tensor] = {}
    for dtype in {leaf.dtype: None for leaf in leaves}:
        same = [leaf for leaf in leaves if leaf.dtype == dtype]
        buffer = all_sum(torch.cat([leaf.flatten() for leaf in same]))
        parts = buffer.split([leaf.numel() for leaf in same])
        summed |= {id(leaf): part.view_as(leaf) for leaf, part in zip(same, parts, strict=True)}
    return {name: _mapped(lambda leaf: summed[id(leaf)], own) for name, own in sums.items()}


def _moments(values: Tensor) -> Moments:  # (n, A)
    means = values.mean(1)
    return Moments(means.square().sum(), values.square().mean(1).sum(), means.sum())


def _outer_moments(values: Tensor) -> Moments:  # (n, A, r)
    means, views = values.mean(1), values.flatten(0, 1)
    return Moments(means.mT @ means, views.mT @ views / values.shape[1], means.sum(0))


def _leaves(tree: Any) -> list[Tensor]:
    return [tree] if isinstance(tree, Tensor) else [leaf for part in tree for leaf in _leaves(part)]


def _mapped(function: Callable[..., Tensor], *trees: Any) -> Any:
    if isinstance(trees[0], Tensor):
        return function(*trees)
    return type(trees[0])(*(_mapped(function, *leaves) for leaves in zip(*trees, strict=True)))
