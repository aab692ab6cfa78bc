"""Each anchor's other view against all its negatives, shared by the losses that contrast it with all of them."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightning_ssl_theory.distributed import RowPlaces, is_distributed
from lightning_ssl_theory.losses.blockwise_contrast import blockwise_contrast, whole_contrast
from lightning_ssl_theory.losses.gradient_in_advance import with_gradient_in_advance
from lightning_ssl_theory.losses.pairwise import Distance, gather_views, half_squares
from lightning_ssl_theory.losses.sample_rows import row_lengths, unit_rows


def contrast_with_all(
    views: Tensor,
    places: RowPlaces,
    *,
    temperature: float,
    distance: Distance = "cosine",
    symmetric: bool = True,
) -> Tensor:
    r"""Log-losses of finding each anchor's other view among the views of all other samples, summed over the anchors.

    Args:
        views: First and second views of this rank, shape (2, n_r, D).
        places: Where they lie among the N of all ranks.
        temperature: :math:`\tau`, which similarities are divided by.
        distance: "cosine": similarities are inner products of the rows, each divided by its length; "squared": minus
            half the squared distances of the rows as they are.
        symmetric: Whether both views are anchors and both are negatives; otherwise first views are the anchors and
            second views the negatives.

    Returns:
        Scalar, over 2 n_r anchors, n_r if not symmetric. O(n_r N D) time and O(N D) memory; on one process forward and
        backward need the time of two products of size 2N x 2N x D where it is symmetric.
    """
    if symmetric and not is_distributed():
        forms = partial(_all_views, temperature, distance), partial(_all_views_by_hand, temperature, distance)
        return with_gradient_in_advance(*forms, views)
    if distance == "cosine":
        views = unit_rows(views)
    z1, z2 = views
    first_views, second_views = gather_views(z1, z2, places)
    candidates = torch.cat([first_views, second_views]) if symmetric else second_views
    positives = _positives(views, distance)
    if distance == "squared":  # distances do not depend on a centre, their rounding does
        centre = candidates.detach().mean(0)
        candidates, views = candidates - centre, views - centre
    own_views = range(places.first, len(candidates), places.total)  # of the first anchor
    options: dict[str, Any] = {"temperature": temperature, "excluded": own_views}
    forms = partial(whole_contrast, **options), partial(_by_hand, bound=_bound(distance), **options)
    _, keys = _factors(candidates, distance)
    sums = [
        with_gradient_in_advance(*forms, _factors(anchors, distance)[0], keys, positives)
        for anchors in (views if symmetric else views[:1])
    ]
    return torch.stack(sums).sum()


def _by_hand(*tensors: Tensor, **options: Any) -> tuple[Tensor, ...]:
    return tuple(part for part in blockwise_contrast(*tensors, **options) if part is not None)


def _all_views(temperature: float, distance: Distance, views: Tensor) -> Tensor:
    # every view an anchor, against the views of all other samples
    rows = unit_rows(views) if distance == "cosine" else views - views.detach().mean((0, 1))
    factors, positives = _factors(rows.flatten(0, 1), distance), _positives(rows, distance)
    return whole_contrast(
        *factors,
        torch.cat([positives, positives]),
        temperature=temperature,
        excluded=_itself_and_other_view(views),
    )


def _all_views_by_hand(
    temperature: float, distance: Distance, views: Tensor, *, has_gradient: bool
) -> tuple[Tensor, ...]:
    lengths = row_lengths(views) if distance == "cosine" else None
    rows = views - views.mean((0, 1)) if lengths is None else views / lengths
    positives = _positives(rows, distance)
    contrast = blockwise_contrast(
        *_factors(rows.flatten(0, 1), distance),
        torch.cat([positives, positives]),
        temperature=temperature,
        excluded=_itself_and_other_view(views),
        bound=_bound(distance),
        is_symmetric=True,
        has_gradient=has_gradient,
    )
    if contrast.by_anchors is None or contrast.by_positives is None:
        return (contrast.value,)
    by_factors = contrast.by_anchors.view(2, views.shape[1], -1)
    by_positive = contrast.by_positives.view(2, -1, 1).sum(0)  # both views have the same one
    if lengths is None:
        by_row, by_height = by_factors[..., :-2], by_factors[..., -2:-1]  # minus half the row's square
        gradient = by_row.addcmul(rows, by_height, value=-1)
        apart = (rows[0] - rows[1]).mul_(by_positive)
        gradient[0].sub_(apart)
        gradient[1].add_(apart)
    else:
        gradient = by_factors
        gradient[0].addcmul_(rows[1], by_positive)
        gradient[1].addcmul_(rows[0], by_positive)
        outwards = (gradient * rows).sum(-1, keepdim=True)  # lengths do not matter
        gradient.addcmul_(rows, outwards, value=-1).div_(lengths)
    return contrast.value, gradient


def _itself_and_other_view(views: Tensor) -> tuple[int, int, int]:
    return 0, views.shape[1], -views.shape[1]


def _bound(distance: Distance) -> float:
    return 1.0 if distance == "cosine" else math.inf


def _positives(views: Tensor, distance: Distance) -> Tensor:
    z1, z2 = views
    return (z1 * z2).sum(1) if distance == "cosine" else -half_squares(z1 - z2)


def _factors(rows: Tensor, distance: Distance) -> tuple[Tensor, Tensor]:
    # as anchor and as key: their inner products are the similarities
    if distance == "cosine":
        return rows, rows
    minus_half_square, one = -half_squares(rows)[:, None], torch.ones_like(rows[:, :1])
    return torch.cat([rows, minus_half_square, one], 1), torch.cat([rows, one, minus_half_square], 1)
