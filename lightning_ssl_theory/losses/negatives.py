"""What an anchor's negatives weigh together, shared by the losses that contrast it with all of them."""

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
    bound = 1 / temperature if distance == "cosine" else float("inf")
    first_views, second_views = gather_views(z1, z2, places)
    candidates = torch.cat([first_views, second_views]) if symmetric else second_views
    centre = candidates.detach().mean(0)  # distances do not depend on it, their rounding does

    def factors(rows: Tensor) -> tuple[Tensor, Tensor]:
        if distance == "cosine":
            return rows / temperature, rows
        rows = (rows - centre) / temperature**0.5
        minus_half_square, one = -half_squares(rows)[:, None], torch.ones_like(rows[:, :1])
        return torch.cat([rows, minus_half_square, one], 1), torch.cat([rows, one, minus_half_square], 1)

    if symmetric and not is_distributed():
        anchors, keys = factors(candidates)
        itself_and_other_view = (0, len(z1), -len(z1))
        return blockwise_logsumexp(
            anchors, keys, excluded=itself_and_other_view, bound=bound, is_symmetric=True
        )
    _, keys = factors(candidates)
    own_views = range(places.first, len(keys), places.total)  # of the first anchor
    sums = [
        blockwise_logsumexp(factors(rows)[0], keys, excluded=own_views, bound=bound)
        for rows in ((z1, z2) if symmetric else (z1,))
    ]
    return torch.cat(sums)
