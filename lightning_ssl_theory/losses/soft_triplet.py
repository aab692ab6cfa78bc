r"""The soft triplet loss: a smooth hinge on :math:`r_+ - r_- + r_0`."""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lightning_ssl_theory.checks import check_number, check_positive
from lightning_ssl_theory.distributed import RowPlaces
from lightning_ssl_theory.losses.pairwise import (
    Distance,
    PairwiseLoss,
    check_pairs,
    gather_views,
    half_squares,
)


class SoftTripletLoss(PairwiseLoss):
    r"""Mean smooth hinge over all triplets of an anchor, its other view, and a view of another sample.

    .. math::
        L = \frac1{4 N (N-1)} \sum_{i, a} \sum_{j \ne i, b}
            \tau \log\bigl(1 + e^{(r_{i,+} - r_{ia,jb} + r_0) / \tau}\bigr) + \beta \frac1N \sum_i r_{i,+}

    with :math:`r_{ia,jb} = \tfrac12 \|z_{ia} - z_{jb}\|^2` and
    :math:`r_{i,+} = \tfrac12 \|z_{i1} - z_{i2}\|^2`. Negatives are all views of all other samples of all
    ranks. In `parts` the hinge counts as :math:`r_+ + \tau \log(e^{-r_+/\tau} + e^{(r_0 - r_-)/\tau})`.

    Cost: O(n_r N D) time and O(n_r N + N D) memory a rank.

    Args:
        temperature: :math:`\tau > 0`, softness of the hinge.
        margin: :math:`r_0`, how much farther than its positive a negative should be.
        distance: "squared" or "cosine".
        beta: Additional weight of the distance between views.

    Raises:
        InputError: If the temperature is not positive or the margin not finite.

    References:
        Tian, Yu, Chen, Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks", 2020,
        Theorem 3.

    Example:
        >>> z = torch.tensor([[0.0], [2.0]])
        >>> loss = SoftTripletLoss(temperature=1.0, margin=2.0)(z, z)  # r_+ = 0, r_- = 2: log(1 + e^0)
        >>> round(float(loss), 6)
        0.693147
    """

    def __init__(
        self,
        temperature: float = 0.5,
        margin: float = 1.0,
        *,
        distance: Distance = "squared",
        beta: float = 0.0,
    ) -> None:
        super().__init__(distance=distance, beta=beta)
        check_positive(temperature, "temperature")
        check_number(margin, "margin", advice="pass 0.0 for none")
        self.temperature = temperature
        self.margin = margin

    def pair_weight(self, r: Tensor) -> Tensor:
        r"""Weights :math:`\xi_{ij} = \frac{N}{N-1} \sigma((r_0 - r_{ij}) / \tau)`.

        Args:
            r: Halved squared distances between mean outputs, shape (N, N).

        Returns:
            :math:`\xi`, shape (N, N), zero on the diagonal.
        """
        check_pairs(r)
        weights = torch.sigmoid((self.margin - r) / self.temperature)
        return (weights * (len(r) / (len(r) - 1))).fill_diagonal_(0.0)

    def _anchor_sum(self, views: Tensor, places: RowPlaces) -> Tensor:
        z1, z2 = views = self._points(views)
        keys = torch.cat(gather_views(z1, z2, places))
        centre = keys.detach().mean(0)  # distances do not depend on it, their rounding does
        keys, anchors = keys - centre, views.flatten(0, 1) - centre
        own_terms = half_squares(z1 - z2).repeat(2) + self.margin - half_squares(anchors)
        excess = (own_terms[:, None] - half_squares(keys) + anchors @ keys.mT) / self.temperature
        sample = torch.arange(places.total, device=z1.device)
        is_same = (sample[places.first : places.first + len(z1), None] == sample).repeat(2, 2)
        # Beyond the threshold softplus is the identity; at 40 that is exact in float64, too.
        hinges = softplus(excess.masked_fill(is_same, -math.inf), threshold=40.0)
        return self.temperature * hinges.sum() / (4 * (places.total - 1))
