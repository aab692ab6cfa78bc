r"""Cosine k-nearest-neighbour classifier: which labelled samples lie nearest, and how they vote.

Neighbours and votes have one order on every device, in every block and on any number of ranks: both are counted in
steps of 2^-40, far above the rounding of float64 and far below what tells samples apart; of equals the first counts.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lightning_ssl_theory.checks import (
    InputError,
    check_finite,
    check_instance,
    check_integer,
    check_positive,
    check_shape,
    check_targets,
)
from lightning_ssl_theory.moments import to_float64
from lightning_ssl_theory.row_blocks import row_blocks

STEPS = 2**40
MOST_FITTED = 2**22  # (STEPS + 1) MOST_FITTED < 2^63: a cosine and a position fit in one integer


class Neighbours(NamedTuple):
    """The k nearest of M labelled samples to each of N samples, nearest first."""

    cosines: Tensor
    """Shape (N, k), float64, in [-1, 1], multiples of 2^-40."""
    indices: Tensor
    """Shape (N, k), int64, in 0..M-1."""


def nearest_neighbours(features: Tensor, fit_features: Tensor, k: int) -> Neighbours:
    r"""The k labelled samples of largest cosine to each sample.

    .. math:: \cos(x_n, x_m) = \frac{x_n^T x_m}{\|x_n\| \|x_m\|}

    A sample of length 0 has cosine 0 with all. Of samples at one cosine the first rows are the nearer ones.

    Args:
        features: Samples, shape (N, D), any real dtype; N = 0 is allowed.
        fit_features: Labelled samples, shape (M, D), M at most 2^22.
        k: Number of neighbours, in 1..M.

    Returns:
        Neighbours. O(N M D) time in float64; O((N + M) D + N k) memory beside a block of 2^22 cosines.

    Raises:
        InputError: If k is larger than M, or a feature is not finite.

    Example:
        >>> fitted = torch.tensor([[0.0, 1.0], [2.0, 0.0], [-1.0, 0.0]])
        >>> nearest_neighbours(torch.tensor([[3.0, 0.0]]), fitted, 2)
        Neighbours(cosines=tensor([[1., 0.]], dtype=torch.float64), indices=tensor([[1, 0]]))
    """
    check_shape(fit_features, "fit_features", "M+ D+")
    check_shape(features, "features", f"N {fit_features.shape[1]}")
    check_finite(fit_features, "fit_features")
    check_finite(features, "features")
    total = len(fit_features)
    check_integer(
        k, "k", at_most=total, advice="it counts labelled samples: pass more of them, or a smaller k"
    )
    if total > MOST_FITTED:
        raise InputError(
            f"Expected `fit_features` of at most {MOST_FITTED} samples, got {total}; leave some of them out."
        )
    fitted = _unit_rows(fit_features)
    places = MOST_FITTED - 1 - torch.arange(total, device=fitted.device)  # the first is the largest
    nearest = torch.empty(len(features), k, dtype=torch.int64, device=fitted.device)
    for rows in row_blocks(len(features), total):
        cosines = _unit_rows(features[rows]).to(fitted.device) @ fitted.mT
        # one integer holds the cosine above and the place below: its order is that of both
        nearest[rows] = (_steps(cosines) * MOST_FITTED + places).topk(k).values
    steps = nearest.div(MOST_FITTED, rounding_mode="floor")
    return Neighbours(steps.to(torch.float64) / STEPS, MOST_FITTED - 1 - nearest % MOST_FITTED)


def knn_votes(
    neighbours: Neighbours,
    fit_targets: Tensor,
    num_classes: int,
    *,
    k: int | None = None,
    temperature: float | None = 0.07,
) -> Tensor:
    r"""Votes of each sample's k nearest neighbours for the classes.

    .. math:: v_{nc} = \sum_{m \in N_k(n),\, y_m = c} e^{(\cos(x_n, x_m) - \max_l \cos(x_n, x_l)) / \tau}

    The nearest neighbour votes with weight 1, so that small temperatures neither overflow nor leave no vote at all;
    the order of the classes is that of the weights exp(cos / tau). Without a temperature each neighbour has one vote.

    Args:
        neighbours: What `nearest_neighbours` found.
        fit_targets: Class of each labelled sample, shape (M,), integers in 0..C-1.
        num_classes: Number of classes C.
        k: Neighbours that vote, at most those that were found; all of them by default.
        temperature: tau > 0; `None` for the plain majority.

    Returns:
        Votes in [0, k], multiples of 2^-40, shape (N, C), float64; `top_k_correct` gives a tie to the lower class.
        O(N k C) time; O(N C) memory beside a block of 2^22 numbers.

    Raises:
        InputError: If k is larger than the number of neighbours, or a target is no class.

    Example:
        >>> near = Neighbours(torch.tensor([[1.0, 0.5, 0.5]]), torch.tensor([[0, 1, 2]]))
        >>> knn_votes(near, torch.tensor([0, 1, 1]), 2, temperature=None).tolist()
        [[1.0, 2.0]]
        >>> knn_votes(near, torch.tensor([0, 1, 1]), 2, temperature=0.5).argmax(1).tolist()  # 2 / e < 1
        [0]

    References:
        Z. Wu, Y. Xiong, S. Yu, D. Lin, "Unsupervised Feature Learning via Non-Parametric Instance
        Discrimination", 2018, section 3.4.
    """
    check_instance(neighbours, "neighbours", Neighbours)
    check_shape(fit_targets, "fit_targets", "M+")
    check_integer(num_classes, "num_classes")
    check_targets(fit_targets, len(fit_targets), num_classes, "fit_targets")
    num_found = neighbours.cosines.shape[1]
    check_integer(k, "k", at_most=num_found, advice="ask for more neighbours first", or_none=True)
    if temperature is not None:
        check_positive(temperature, "temperature")
    cosines, indices = (part[:, : k or num_found] for part in neighbours)
    if len(indices) and int(indices.max()) >= len(fit_targets):
        raise InputError(
            f"Expected `fit_targets` of all samples among which neighbours were looked for, got {len(fit_targets)} "
            f"and a neighbour at {int(indices.max())}; pass the labels of `fit_features`."
        )
    labels = fit_targets.to(indices.device, torch.int64)
    votes = cosines.new_zeros(len(cosines), num_classes, dtype=torch.float64)
    for rows in row_blocks(len(cosines), cosines.shape[1] * num_classes):
        near = cosines[rows].to(torch.float64)
        weights = torch.ones_like(near) if temperature is None else ((near - near[:, :1]) / temperature).exp()
        votes[rows] = (one_hot(labels[indices[rows]], num_classes) * weights.unsqueeze(2)).sum(1)
    return _steps(votes).to(torch.float64) / STEPS


def _steps(values: Tensor) -> Tensor:
    return (values * STEPS).round().to(torch.int64)


def _unit_rows(features: Tensor) -> Tensor:
    # The largest entry goes first, so that no square over- or underflows; rows of zeros stay.
    exact = to_float64(features)
    largest = exact.abs().amax(1, keepdim=True)
    scaled = exact / largest.where(largest > 0, 1.0)
    lengths = scaled.norm(dim=1, keepdim=True)
    return scaled / lengths.where(lengths > 0, 1.0)
