r"""What the losses on pairwise distances share.

A pairwise loss is a function of :math:`r_+ = \tfrac12\|f(x_1) - f(x_+)\|^2` between two views of a sample,
and of :math:`r_k = \tfrac12\|f(x_1) - f(x_k)\|^2` between a sample and its negatives, views of other
samples on any rank.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError, check_finite, check_number, check_shape, check_word
from lightning_ssl_theory.distributed import (
    RowPlaces,
    all_gather_rows,
    all_sum_with_grad,
    is_distributed,
    row_places,
)
from lightning_ssl_theory.losses.batch_moments import SMALL_BATCH_ADVICE, two_views
from lightning_ssl_theory.losses.sample_rows import unit_rows

Distance = Literal["cosine", "squared"]


class PairwiseLoss(nn.Module, ABC):
    r"""Mean over all anchors of a loss on r_+ and r_k, plus beta times the mean of r_+.

    With several processes the negatives come from all ranks. The value is the mean over the anchors of all
    ranks, equal on each; the parameters' gradients, once DistributedDataParallel has averaged them, are
    those of one process on the concatenated batch, however unevenly its rows are spread. Half precision is
    computed in float32, also under autocast; float64 stays float64. (Where TF32 products are switched on,
    float32 uses them.)

    Args:
        distance: What r is computed on: "squared" takes the outputs as they are; "cosine" divides each by its
            length first, so that r is one minus the cosine.
        beta: Weight of the additional mean of r_+, which adds 2 beta Wn w to the gradient, Wn the operator
            within samples.

    Raises:
        InputError: If `distance` is none of the two or `beta` is not finite.

    References:
        Tian, Yu, Chen, Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks", 2020,
        sec. 3-4.
    """

    def __init__(self, *, distance: Distance, beta: float) -> None:
        super().__init__()
        check_word(distance, "distance", Distance)
        check_number(beta, "beta", advice="pass 0.0 to leave its term out")
        self.distance = distance
        self.beta = beta

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Value of the loss.

        Args:
            z1: First views of the n_r samples of this rank, shape (n_r, D).
            z2: Second views of the same samples, shape (n_r, D).

        Returns:
            Scalar: mean over the anchors of all ranks.
        """
        if self.beta:
            return self._alignment_and_loss(z1, z2)[1]
        views, places = self._views(z1, z2)
        with torch.autocast(z1.device.type, enabled=False):
            return all_sum_with_grad(self._anchor_sum(views, places)) / places.total

    def parts(self, z1: Tensor, z2: Tensor) -> dict[str, Tensor]:
        """The pull between the views of one sample and the push between samples; together they are the loss.

        Args:
            z1: First views of the n_r samples of this rank, shape (n_r, D).
            z2: Second views of the same samples, shape (n_r, D).

        Returns:
            "alignment", the mean of r_+ with its weight, zero for identical views, and "regularization",
            the rest.
        """
        alignment, loss = self._alignment_and_loss(z1, z2)
        return {"alignment": alignment, "regularization": loss - alignment}

    @abstractmethod
    def pair_weight(self, r: Tensor) -> Tensor:
        r"""Weights of the pairs of samples with which the weighted covariance operator predicts the gradient.

        With :math:`r_{ij} = \tfrac12\|\bar f_i - \bar f_j\|^2` and
        :math:`\mathrm{Lap} = \mathrm{diag}(\xi 1) - \xi` the gradient of the loss is
        :math:`-2 N^{-2} \sum_{ij} \mathrm{Lap}_{ij} \bar K_i \bar f_j`, exactly so where the views of each
        sample are identical; `beta` adds its own term.

        Args:
            r: Halved squared distances between mean outputs of a batch's samples, in its order, shape (N, N).

        Returns:
            :math:`\xi`, shape (N, N), symmetric with a zero diagonal.
        """

    @property
    def _alignment_weight(self) -> float:
        return 1.0

    @abstractmethod
    def _anchor_sum(self, views: Tensor, places: RowPlaces) -> Tensor:
        """Loss without its beta term, summed over the samples of this rank.

        Args:
            views: First and second views as they are, (2, n_r, D).
            places: Where this rank's samples lie among the N of all ranks.

        Returns:
            Scalar whose sum over the ranks is N times the loss.
        """

    def _alignment_and_loss(self, z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
        views, places = self._views(z1, z2)
        with torch.autocast(z1.device.type, enabled=False):
            z1, z2 = self._points(views)
            sums = torch.stack([half_squares(z1 - z2).sum(), self._anchor_sum(views, places)])
            r_positive, loss = (all_sum_with_grad(sums) / places.total).unbind()
            return (self._alignment_weight + self.beta) * r_positive, loss + self.beta * r_positive

    def _views(self, z1: Tensor, z2: Tensor) -> tuple[Tensor, RowPlaces]:
        # in one precision, (2, n_r, D)
        views = torch.stack(two_views(z1, z2))
        places = row_places(views[0])
        check_contrast(places.total, "samples over all ranks")
        return views, places

    def _points(self, views: Tensor) -> Tensor:
        # whose halved squared distances are r
        return unit_rows(views) if self.distance == "cosine" else views


def gather_views(z1: Tensor, z2: Tensor, places: RowPlaces) -> tuple[Tensor, Tensor]:
    """Both views of the samples of all ranks, in one exchange.

    Args:
        z1: First views of this rank, shape (n_r, D).
        z2: Second views of this rank, shape (n_r, D).
        places: Where they lie among those of all ranks.

    Returns:
        First and second views of all ranks, shape (N, D) each, in rank order.
    """
    if not is_distributed():
        return z1, z2
    first_views, second_views = all_gather_rows(torch.cat([z1, z2], dim=1), places).chunk(2, dim=1)
    return first_views, second_views


def half_squares(rows: Tensor) -> Tensor:
    """Half the squared length of every row.

    Args:
        rows: Shape (N, D).

    Returns:
        Shape (N,).
    """
    return rows.square().sum(1) / 2


def check_pairs(r: Tensor) -> None:
    """Raise unless a matrix can hold the distances between at least two samples.

    Args:
        r: Distances between samples, shape (N, N).
    """
    check_shape(r, "r", "N N")
    check_finite(r, "r")
    check_contrast(len(r), "samples")


def check_contrast(count: int, what: str) -> None:
    """Raise InputError unless there are two samples, so that each is a negative of the other."""
    if count < 2:
        raise InputError(
            f"Expected at least 2 {what}, got {count}; without negatives there is no contrast: {SMALL_BATCH_ADVICE}."
        )
