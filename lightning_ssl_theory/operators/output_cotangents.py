r"""Cotangents of the outputs whose pull-back gives, without any probe, gradients that theory speaks of.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Theorems 2 to 4.
"""

from itertools import combinations
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_ssl_theory.distributed import (
    AllSum,
    RowPlaces,
    all_gather_rows,
    identity,
    row_places,
    world_size,
)
from lightning_ssl_theory.moments import to_float64
from lightning_ssl_theory.operators.covariance_operators import half_squared_distances
from lightning_ssl_theory.operators.pair_coefficients import Estimator, laplacian


class PairwiseObjective(Protocol):
    """What a loss offers so that theory can predict its gradient; `losses.PairwiseLoss` does."""

    distance: Literal["cosine", "squared"]
    beta: float

    def __call__(self, z1: Tensor, z2: Tensor) -> Tensor:
        """The loss of two views, (n, D) each, equal on every rank."""

    def pair_weight(self, r: Tensor) -> Tensor:
        """The weights xi of all pairs of samples, (N, N) -> (N, N)."""


def covariance_cotangents(outputs: Tensor, *, estimator: Estimator, all_sum: AllSum = identity) -> Tensor:
    r"""Cotangents c with sum_s K_s c_s = Cov(bar K, bar f), the operator applied to w where K^T w = f.

    Args:
        outputs: f of this rank's views, (n, A, D).
        estimator: "plugin" or "unbiased", as of the operator.
        all_sum: Sum over ranks.

    Returns:
        (n, A, D).
    """
    num_views, exact = outputs.shape[1], to_float64(outputs)  # what collapsed outputs differ by is small
    means = exact.mean(1, keepdim=True)
    sums = all_sum(torch.cat([means.sum((0, 1)), means.new_tensor([len(outputs)])]))
    centre, count = sums[:-1] / sums[-1], sums[-1]
    if estimator == "plugin":
        return ((means - centre) / (count * num_views)).to(outputs).expand_as(outputs)
    others = (num_views * means - exact) / (num_views - 1)  # of the other views
    elsewhere = (count * centre - means) / (count - 1)  # of the other samples
    return ((others - elsewhere) / (count * num_views)).to(outputs)


def output_moments(
    outputs: Tensor, *, estimator: Estimator, all_sum: AllSum = identity
) -> tuple[Tensor, Tensor]:
    """Trace of the covariance of the samples' mean outputs, and mean of ||f||^2 over all views.

    Args:
        outputs: f of this rank's views, (n, A, D).
        estimator: "plugin" or "unbiased".
        all_sum: Sum over ranks.

    Returns:
        Two float64 scalars.
    """
    exact = to_float64(outputs)
    cotangents = covariance_cotangents(exact, estimator=estimator, all_sum=all_sum)
    square, num_views = exact.square().sum(), exact.new_tensor(exact.shape[0] * exact.shape[1])
    variance, square, num_views = all_sum(
        torch.stack([(exact * cotangents).sum(), square, num_views])
    ).unbind()
    return variance, square / num_views


def gradient_cotangents(outputs: Tensor, loss: PairwiseObjective) -> tuple[Tensor, Tensor]:
    r"""Cotangents of a loss's true gradient, and of theory's prediction of it.

    .. math:: \hat g = -2 N^{-2} \sum_{ij} Lap_{ij}\, \bar K_i \bar f_j + 2\beta\, W

    Lap is the Laplacian of the loss's in-batch pair weights, f the output as the loss sees it (normalised for cosine
    losses), W the mean over samples of Cov(K, f) over views. On the diagonal, barK_i barf_i is the mean over pairs
    of *different* views, as in the loss's positives; so the prediction is exact on every batch for
    SimpleContrastiveLoss, and what remains for other losses is what Theorem 4 leaves open. Biases, skips and
    BatchNorm with held statistics are covered: f stands where K^T w would. Both are means over all pairs of two
    views, each pair a batch of its own.

    Args:
        outputs: f of this rank's views before any normalisation, (n, A, D), with A at least 2.
        loss: A pairwise loss of two views.

    Returns:
        Two of (n, A, D). Summed over all ranks, their pull-backs to a weight are the two gradients. What crosses ranks
        is what the loss exchanges, and the mean outputs of each pair of views, (N, D).
    """
    leaf = outputs.detach().requires_grad_()
    with torch.enable_grad():
        seen = F.normalize(leaf, dim=2) if loss.distance == "cosine" else leaf * 1.0
        pairs = list(combinations(range(outputs.shape[1]), 2))
        value = torch.stack([loss(leaf[:, a], leaf[:, b]) for a, b in pairs]).mean()
    (true,) = torch.autograd.grad(value, leaf, materialize_grads=True)
    predicted, places = torch.zeros_like(outputs), row_places(outputs)
    for pair in pairs:
        predicted[:, pair] += _predicted(seen.detach()[:, pair], loss, places) / len(pairs)
    (predicted,) = torch.autograd.grad(seen, leaf, predicted)
    return true / world_size(), predicted


def _predicted(views: Tensor, loss: PairwiseObjective, places: RowPlaces) -> Tensor:
    means = views.mean(1)  # of two views, (n, 2, D), this rank's
    first, num_samples, everyone = places.first, places.total, all_gather_rows(means, places)
    lap = laplacian(loss.pair_weight(half_squared_distances(everyone))) / num_samples**2
    lap = lap[first : first + len(means)]
    own = lap[:, first : first + len(means)].diagonal()[:, None]
    others = (lap @ everyone - own * means) / 2
    spread = (views - means[:, None]) / num_samples
    return -own[:, None] * views.flip(1) - 2 * others[:, None] + 2 * loss.beta * spread
