"""What an anchor's negatives weigh together, shared by the losses that contrast it with all of them."""

import math
from functools import partial

import torch
from torch import Tensor

from lightning_ssl_theory.distributed import RowPlaces, is_distributed
from lightning_ssl_theory.losses.blockwise_logsumexp import blockwise_logsumexp
from lightning_ssl_theory.losses.pairwise import Distance, gather_views, half_squares


def negatives_logsumexp(
    z1: Tensor,
    z2: Tensor,
    places: RowPlaces,
    *,
    temperature: float,
    distance: Distance = "cosine",
    symmetric: bool = True,
) -> Tensor:
    r"""Log-sum-exp over the views of all other samples of their similarities to each anchor, over the temperature.

    Args:
        z1: First views of this rank, of length one (or zero) for the cosine, shape (n_r, D).
        z2: Second views, likewise.
        places: Where they lie among the N of all ranks.
        temperature: :math:`\tau`.
        distance: "cosine": similarities are inner products; "squared": minus half the squared distances.
        symmetric: Whether both views are anchors and both are negatives; otherwise first views are the anchors and
            second views the negatives.

    Returns:
        Shape (2 n_r,), first the anchors of `z1`, then those of `z2`; (n_r,) if not symmetric. O(n_r N D) time and
        O(N D) memory; on one process forward and backward need the time of two products of size 2N x 2N x D where it is
        symmetric.
    """
    first_views, second_views = gather_views(z1, z2, places)
    candidates = torch.cat([first_views, second_views]) if symmetric else second_views
    centre = None if distance == "cosine" else candidates.detach().mean(0)
    logsumexp = partial(
        blockwise_logsumexp, temperature=temperature, bound=1.0 if distance == "cosine" else math.inf
    )
    if symmetric and not is_distributed():
        itself_and_other_view = 0, len(z1), -len(z1)
        anchors, keys = _factors(candidates, centre)
        return logsumexp(anchors, keys, excluded=itself_and_other_view, is_symmetric=True)
    _, keys = _factors(candidates, centre)
    own_views = range(places.first, len(keys), places.total)  # of the first anchor
    sums = [
        logsumexp(_factors(anchors, centre)[0], keys, excluded=own_views)
        for anchors in ((z1, z2) if symmetric else (z1,))
    ]
    return torch.cat(sums)


def _factors(rows: Tensor, centre: Tensor | None) -> tuple[Tensor, Tensor]:
    # as anchor and as key: their inner products are the similarities
    if centre is None:
        return rows, rows
    rows = rows - centre  # distances do not depend on it, their rounding does
    minus_half_square, one = -half_squares(rows)[:, None], torch.ones_like(rows[:, :1])
    return torch.cat([rows, minus_half_square, one], 1), torch.cat([rows, one, minus_half_square], 1)
