r"""InfoNCE: the positive against its negatives in a softmax; NT-Xent is its cosine form."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lightning_ssl_theory.checks import InputError, check_flag, check_positive, described
from lightning_ssl_theory.distributed import RowPlaces
from lightning_ssl_theory.losses.negatives import contrast_with_all
from lightning_ssl_theory.losses.pairwise import (
    Distance,
    PairwiseLoss,
    check_pairs,
    gather_views,
    half_squares,
)


class InfoNCELoss(PairwiseLoss):
    r"""Mean cross-entropy of finding an anchor's other view among the views of other samples.

    .. math::
        \ell = -\log \frac{e^{-r_+/\tau}}{e^{-r_+/\tau} + \sum_k e^{-r_k/\tau}}, \qquad
        L = c \cdot \mathrm{mean}\, \ell + \beta\, \mathrm{mean}\, r_+

    By default this is NT-Xent: the cosine distance (r is one minus the cosine), both views of every sample as
    anchors, 2N - 2 negatives each, N the samples of all ranks, and c = 1. With `distance="squared"` r is
    half the squared distance of the outputs as they are, and :math:`c = \tau`.

    Cost: O(n_r N D) time and O(N D) memory a rank; with `num_negatives=1` O(N D) both. Second derivatives, forward-mode
    derivatives, torch.func and torch.compile take O(n_r N) memory more.

    Args:
        temperature: :math:`\tau > 0`.
        distance: "cosine", or "squared".
        symmetric: Whether both views are anchors, with both views of all other samples as negatives.
            Otherwise the first view is the anchor, with the second views of all other samples as negatives.
        num_negatives: None takes them all. 1 takes sample i + 1 modulo N for sample i, in the order of the
            ranks: its second view for an anchor among the first views, and conversely.
        beta: Additional weight of the distance between views.

    Raises:
        InputError: If the temperature is not positive or `num_negatives` neither None nor 1.

    References:
        van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, eq. 4;
        Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual
        Representations", 2020, eq. 1; Tian, Yu, Chen, Ganguli, "Understanding Self-supervised Learning
        with Dual Deep Networks", 2020.

    Example:
        >>> z = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
        >>> loss = InfoNCELoss(temperature=1.0)(z, z)  # log(1 + 2 e^-1): similarity 1 to its positive, else 0
        >>> round(float(loss), 6)
        0.551445
    """

    def __init__(
        self,
        temperature: float = 0.5,
        *,
        distance: Distance = "cosine",
        symmetric: bool = True,
        num_negatives: Literal[1] | None = None,
        beta: float = 0.0,
    ) -> None:
        super().__init__(distance=distance, beta=beta)
        check_positive(temperature, "temperature")
        check_flag(symmetric, "symmetric")
        if num_negatives not in (None, 1):
            raise InputError(
                f"Expected `num_negatives` None or 1, got {described(num_negatives)}; None takes all others."
            )
        self.temperature = temperature
        self.symmetric = symmetric
        self.num_negatives = num_negatives

    def pair_weight(self, r: Tensor) -> Tensor:
        r"""Weights :math:`\xi = N (P + P^\top) / 2`, times :math:`1/\tau` for the cosine.

        :math:`P_{ij} = v e^{-r_{ij}/\tau} / (1 + v \sum_{m \ne i} e^{-r_{im}/\tau})`, where each other
        sample gives v negatives an anchor: v = 2 with `symmetric`, else 1. With `num_negatives=1` j and m
        are i + 1 only, v = 1.

        Args:
            r: Halved squared distances between mean outputs, shape (N, N).

        Returns:
            :math:`\xi`, shape (N, N), zero on the diagonal.
        """
        check_pairs(r)
        views = 2 if self.symmetric and self.num_negatives is None else 1
        logits = math.log(views) - r / self.temperature
        if self.num_negatives == 1:
            is_next = torch.eye(len(r), dtype=torch.bool, device=r.device).roll(1, dims=1)
            logits = logits.masked_fill(~is_next, -math.inf)
        shares = logits.fill_diagonal_(0.0).softmax(dim=1).fill_diagonal_(0.0)  # the diagonal is the positive
        return (shares + shares.mT) * (len(r) / 2 * self._alignment_weight)

    @property
    def _scale(self) -> float:
        return self.temperature if self.distance == "squared" else 1.0

    @property
    def _alignment_weight(self) -> float:
        return self._scale / self.temperature

    def _anchor_sum(self, views: Tensor, places: RowPlaces) -> Tensor:
        if self.num_negatives == 1:
            z1, z2 = self._points(views)
            return self._scale * self._one_negative(z1, z2, places)
        sums = contrast_with_all(
            views, places, temperature=self.temperature, distance=self.distance, symmetric=self.symmetric
        )
        return sums * (self._scale / (2 if self.symmetric else 1))  # anchors of a sample

    def _one_negative(self, z1: Tensor, z2: Tensor, places: RowPlaces) -> Tensor:
        following = torch.arange(1, len(z1) + 1, device=z1.device).add(places.first) % places.total
        first_views, second_views = gather_views(z1, z2, places)
        negatives = [(z1, second_views[following])]
        if self.symmetric:
            negatives.append((z2, first_views[following]))
        r_positive = half_squares(z1 - z2)
        excess = [r_positive - half_squares(anchor - negative) for anchor, negative in negatives]
        return softplus(torch.cat(excess) / self.temperature, threshold=40.0).sum() / len(excess)
