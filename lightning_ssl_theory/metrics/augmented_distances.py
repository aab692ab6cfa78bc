r"""Distances between samples under augmentation: how near two samples come in any of their views.

Blocks of all views' products by one matrix product each; pairs so near that the products have lost the digits of their
difference are computed again by differences.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_finite, check_integer, check_shape, check_targets

NEAR = 1e-4
"""Squared distances below this share of the larger squared norm are computed by differences."""


class NearestViews(NamedTuple):
    r"""Distances between N samples under augmentation, and the views that are so far apart.

    Attributes:
        distances: As of `augmented_distances`, (N, N).
        view: The view of sample i that comes nearest to a view of sample j, (N, N), int16; 0 between classes.
    """

    distances: Tensor
    view: Tensor


def augmented_distances(
    views: Tensor, labels: Tensor | None = None, *, memory_budget: int = 256 * 1024**2
) -> Tensor:
    r"""Smallest distance between a view of one sample and a view of another, for all pairs of samples.

    .. math::
        d_A(x_i, x_j) = \min_{a, b} \lVert x_{ia} - x_{jb} \rVert

    It is over-estimated by few views: the augmentations of an image are more than the A that are given. Pairs of
    different classes need no distance for `augmentation_concentration`, and cost nothing where labels are given.

    Cost: N^2 A^2 D / 2 multiplications and additions, with labels N_k^2 A^2 D / 2 a class; beside the result, memory of
    two copies of a class's views in floating point, of its distances and of the budget.

    Args:
        views: A views of N samples, pixels or features of any space, shape (N, A, \*).
        labels: Classes, shape (N,), integers from 0; None for all pairs.
        memory_budget: Bytes that blocks of products may take.

    Returns:
        Shape (N, N), symmetric, zero on the diagonal, infinite between classes; floating as the views, else float32.

    Raises:
        InputError: If there are no samples or views, or one is not finite.

    References:
        Huang, Yi, Zhao, Jiang, "Towards the Generalization of Contrastive Self-Supervised Learning", 2021, eq. 1.

    Example:
        >>> augmented_distances(torch.tensor([[[0.0], [4.0]], [[5.0], [9.0]]]))
        tensor([[0., 1.],
                [1., 0.]])
    """
    return _nearest(views, labels, memory_budget, with_view=False).distances


def nearest_views(
    views: Tensor, labels: Tensor | None = None, *, memory_budget: int = 256 * 1024**2
) -> NearestViews:
    r"""Augmented distances, and which views of two samples come nearest.

    Args:
        views: A views of N samples, shape (N, A, \*).
        labels: Classes, shape (N,), integers from 0; None for all pairs.
        memory_budget: Bytes that blocks of products may take.

    Returns:
        Distances as of `augmented_distances`, and the views; beside its cost, two bytes for each pair of samples.

    Raises:
        InputError: As `augmented_distances`.

    Example:
        >>> nearest_views(torch.tensor([[[0.0], [4.0]], [[5.0], [9.0]]])).view
        tensor([[0, 1],
                [0, 0]], dtype=torch.int16)
    """
    return _nearest(views, labels, memory_budget, with_view=True)


def distance_levels(distances: Tensor) -> Tensor:
    """Distances that tell near pairs of samples from far ones: 0, and quantiles of those that are finite.

    Args:
        distances: Augmented distances of N samples, (N, N), infinite between classes.

    Returns:
        At most 9 in rising order, 0 first and the largest last, float64.
    """
    apart = distances[torch.ones_like(distances, dtype=torch.bool).triu(1)].double()
    apart = apart[apart.isfinite()].sort().values
    shares = apart.new_tensor([0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0])
    places = (shares * (len(apart) - 1)).long()
    return torch.cat([apart.new_zeros(1), apart[places] if len(apart) else apart]).unique()


def _nearest(views: Tensor, labels: Tensor | None, memory_budget: int, *, with_view: bool) -> NearestViews:
    check_shape(views, "views", "N+ A+ *")
    check_integer(memory_budget, "memory_budget", advice="pass bytes")
    check_finite(views, "views")
    rows = views.flatten(2) if views.ndim > 2 else views.unsqueeze(2)
    rows = rows if rows.is_floating_point() else rows.float()
    if labels is None:
        return _within(rows, memory_budget, with_view=with_view)
    check_targets(labels, len(rows), None, "labels")
    distances = rows.new_full((len(rows), len(rows)), torch.inf)
    view = torch.zeros(distances.shape if with_view else (), dtype=torch.int16, device=rows.device)
    for one in labels.unique():
        members = (labels == one).nonzero().flatten()
        found = _within(rows[members], memory_budget, with_view=with_view)
        distances[members[:, None], members] = found.distances
        if with_view:
            view[members[:, None], members] = found.view
    return NearestViews(distances, view)


def _within(rows: Tensor, memory_budget: int, *, with_view: bool) -> NearestViews:
    # (n, A, D): all pairs
    count, num_views, width = rows.shape
    distances = rows.new_zeros(count, count)
    view = torch.zeros(distances.shape if with_view else (), dtype=torch.int16, device=rows.device)
    views = (
        (rows - rows.mean((0, 1))).transpose(0, 1).contiguous()
    )  # distances do not change, their rounding does
    norms = torch.linalg.vector_norm(views, dim=2).square_()  # (A, n), without a third copy
    largest = norms.amax(0)
    for first, last in _blocks(
        count, ((num_views + 4) * count + num_views * width) * rows.element_size(), memory_budget
    ):
        nearest, pair = _block(views, norms, first, last, with_view=with_view)
        is_near = nearest < NEAR * torch.maximum(largest[first:last, None], largest[first:])
        nearest = nearest.clamp_(min=0).sqrt_()
        _by_differences(nearest, pair, views[:, first:], is_near.triu_(1), memory_budget)
        _put(distances, nearest, nearest, first, last)
        if with_view:
            _put(view, pair.div(num_views, rounding_mode="floor"), pair % num_views, first, last)
    return NearestViews(distances, view)


def _block(views: Tensor, norms: Tensor, first: int, last: int, *, with_view: bool) -> tuple[Tensor, Tensor]:
    # smallest squares of samples first..last to all from first on, (n, m), and the pairs a A + b of views; one product
    # for each view b, whose minimum over the views a runs along whole rows
    num_views = len(views)
    left, own = views[:, first:last].flatten(0, 1), norms[:, first:last].reshape(-1, 1)
    nearest = views.new_full((last - first, views.shape[1] - first), torch.inf)
    pair = torch.zeros(nearest.shape if with_view else (), dtype=torch.int16, device=views.device)
    for b in range(num_views):
        squares = torch.addmm(norms[b, first:].reshape(1, -1), left, views[b, first:].mT, alpha=-2).add_(own)
        of_view = squares.unflatten(0, (num_views, -1))
        if with_view:
            smallest, a = of_view.min(0)
            pair = torch.where(smallest < nearest, (a * num_views + b).short(), pair)
            nearest = torch.minimum(nearest, smallest)
        else:
            torch.minimum(nearest, of_view.amin(0), out=nearest)
    return nearest, pair


def _by_differences(nearest: Tensor, pair: Tensor, views: Tensor, wanted: Tensor, memory_budget: int) -> None:
    ones, others = wanted.nonzero(as_tuple=True)
    num_views, _, width = views.shape
    for first, last in _blocks(
        len(ones), num_views * (2 * width + num_views) * views.element_size(), memory_budget
    ):
        chosen = ones[first:last], others[first:last]
        left, right = (views[:, samples].transpose(0, 1) for samples in chosen)
        exact = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist").flatten(1)
        nearest[chosen], indices = exact.min(1)
        if pair.ndim:
            pair[chosen] = indices.short()


def _put(matrix: Tensor, above: Tensor, below: Tensor, first: int, last: int) -> None:
    # rows and columns of a block; in the square where they meet what lies above the diagonal counts
    size = last - first
    matrix[first:last, last:] = above[:, size:]
    matrix[last:, first:last] = below[:, size:].mT
    matrix[first:last, first:last] = above[:, :size].triu(1) + below[:, :size].triu(1).mT


def _blocks(count: int, bytes_of_one: int, memory_budget: int) -> Iterator[tuple[int, int]]:
    size = max(1, memory_budget // bytes_of_one)
    for first in range(0, count, size):
        yield first, min(first + size, count)
