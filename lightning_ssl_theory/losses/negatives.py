"""Each anchor's other view against all its negatives, shared by the losses that contrast it with all of them."""

import math
from functools import partial

import torch
from torch import Tensor

from lightning_ssl_theory.distributed import RowPlaces, is_distributed
from lightning_ssl_theory.losses.blockwise_contrast import blockwise_contrast
from lightning_ssl_theory.losses.pairwise import Distance, gather_views, half_squares


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
        views: First and second views of this rank, of length one (or zero) for the cosine, shape (2, n_r, D).
        places: Where they lie among the N of all ranks.
        temperature: :math:`\tau`, which similarities are divided by.
        distance: "cosine": similarities are inner products; "squared": minus half the squared distances.
        symmetric: Whether both views are anchors and both are negatives; otherwise first views are the anchors and
            second views the negatives.

    Returns:
        Scalar, over 2 n_r anchors, n_r if not symmetric. O(n_r N D) time and O(N D) memory; on one process forward and
        backward need the time of two products of size 2N x 2N x D where it is symmetric.
    """
    z1, z2 = views
    positives = (z1 * z2).sum(1) if distance == "cosine" else -half_squares(z1 - z2)
    contrast = partial(
        blockwise_contrast, temperature=temperature, bound=1.0 if distance == "cosine" else math.inf
    )
    if symmetric and not is_distributed():
        rows = views.flatten(0, 1)
        itself_and_other_view = 0, len(z1), -len(z1)
        factors = _factors(rows, _centre(rows, distance))
        return contrast(*factors, positives.repeat(2), excluded=itself_and_other_view, is_symmetric=True)
    first_views, second_views = gather_views(z1, z2, places)
    candidates = torch.cat([first_views, second_views]) if symmetric else second_views
    centre = _centre(candidates, distance)
    _, keys = _factors(candidates, centre)
    own_views = range(places.first, len(keys), places.total)  # of the first anchor
    sums = [
        contrast(_factors(anchors, centre)[0], keys, positives, excluded=own_views)
        for anchors in ((z1, z2) if symmetric else (z1,))
    ]
    return torch.stack(sums).sum()


def _centre(rows: Tensor, distance: Distance) -> Tensor | None:
    return None if distance == "cosine" else rows.detach().mean(0)


def _factors(rows: Tensor, centre: Tensor | None) -> tuple[Tensor, Tensor]:
    # as anchor and as key: their inner products are the similarities
    if centre is None:
        return rows, rows
    rows = rows - centre  # distances do not depend on it, their rounding does
    minus_half_square, one = -half_squares(rows)[:, None], torch.ones_like(rows[:, :1])
    return torch.cat([rows, minus_half_square, one], 1), torch.cat([rows, one, minus_half_square], 1)
