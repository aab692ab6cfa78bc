r"""Distances between samples under augmentation: how near two samples come in any of their views.

Blocks of all views' products by one matrix product each; pairs so near that the products have lost the digits of their
difference are computed again by differences.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_finite, check_integer, check_shape, check_targets

NEAR = 1e-4
"""Squared distances below this share of the larger squared norm are computed by differences."""


def augmented_distances(
    views: Tensor, labels: Tensor | None = None, *, memory_budget: int = 256 * 1024**2
) -> Tensor:
    r"""Smallest distance between a view of one sample and a view of another, for all pairs of samples.

    .. math::
        d_A(x_i, x_j) = \min_{a, b} \lVert x_{ia} - x_{jb} \rVert

    It is over-estimated by few views: the augmentations of an image are more than the A that are given. Pairs of
    different classes need no distance for `augmentation_concentration`, and cost nothing where labels are given.

    Cost: N^2 A^2 D / 2 multiplications and additions, with labels N_k^2 A^2 D / 2 a class; beside the result, memory of
    the views in floating point, of one class's distances and of the budget.

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
    check_shape(views, "views", "N+ A+ *")
    check_integer(memory_budget, "memory_budget", advice="pass bytes")
    check_finite(views, "views")
    rows = views.flatten(2) if views.ndim > 2 else views.unsqueeze(2)
    rows = rows if rows.is_floating_point() else rows.float()
    distances = rows.new_full((len(rows), len(rows)), torch.inf)
    for members in _groups(len(rows), labels):
        distances[members[:, None], members] = _within(rows[members], memory_budget)
    return distances.fill_diagonal_(0.0)


def _groups(num_samples: int, labels: Tensor | None) -> list[Tensor]:
    if labels is None:
        return [torch.arange(num_samples)]
    check_targets(labels, num_samples, None, "labels")
    return [(labels == one).nonzero().flatten() for one in labels.unique()]


def _within(rows: Tensor, memory_budget: int) -> Tensor:
    # (n, A, D) -> (n, n)
    count, num_views, _ = rows.shape
    rows = rows - rows.mean((0, 1))  # distances do not depend on it, their rounding does
    norms = rows.square().sum(2)
    distances = rows.new_zeros(count, count)
    for first, last in _blocks(count, num_views**2 * count * rows.element_size(), memory_budget):
        left, right = rows[first:last], rows[first:]
        squares = torch.addmm(
            norms[first:].reshape(1, -1), left.flatten(0, 1), right.flatten(0, 1).mT, alpha=-2
        )
        squares += norms[first:last].reshape(-1, 1)
        nearest = squares.unflatten(1, (-1, num_views)).amin(2).unflatten(0, (-1, num_views)).amin(1)
        largest = norms.amax(1)
        is_near = nearest < NEAR * torch.maximum(largest[first:last, None], largest[first:])
        nearest = nearest.clamp_(min=0).sqrt_()
        _by_differences(nearest, left, right, is_near.triu(1), memory_budget)
        distances[first:last, first:] = nearest
    return distances.triu(1) + distances.triu(1).mT


def _by_differences(nearest: Tensor, left: Tensor, right: Tensor, wanted: Tensor, memory_budget: int) -> None:
    ones, others = wanted.nonzero(as_tuple=True)
    _, num_views, width = left.shape
    for first, last in _blocks(
        len(ones), num_views * (2 * width + num_views) * left.element_size(), memory_budget
    ):
        pair = ones[first:last], others[first:last]
        views = torch.cdist(left[pair[0]], right[pair[1]], compute_mode="donot_use_mm_for_euclid_dist")
        nearest[pair] = views.flatten(1).amin(1)


def _blocks(count: int, bytes_of_one: int, memory_budget: int) -> Iterator[tuple[int, int]]:
    size = max(1, memory_budget // bytes_of_one)
    for first in range(0, count, size):
        yield first, min(first + size, count)
