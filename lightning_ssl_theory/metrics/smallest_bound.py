r"""The error bound of contrastive learning at the distance and the accuracy that make it smallest."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_shape
from lightning_ssl_theory.metrics.generalization_bound import (
    generalization_bound,
    spread_of_classes,
    view_spreads,
)

_TIE = 1e-6


class SmallestBound(NamedTuple):
    r"""The bound over a grid, at its best cell; float64 scalars but for `r_epsilons` and `r_epsilon_bounds`.

    Attributes:
        alignment: Mean squared distance of two different views of a sample.
        r_epsilons: Share of samples two of whose views are further apart than epsilon, (E,), for every epsilon.
        r_epsilon_bounds: What alignment alone says of these shares, at most 1, (E,): :math:`A (A - 1) / (2 \epsilon^2)`
            times `alignment`, for A views.
        cell: Index of delta and of epsilon at the best cell, (2,), integers.
        r_epsilon: That share at the best cell.
        rho_max: How far, relative to r^2, a class may be from its centre, there.
        rho_alignment: The smallest rho_max over epsilon, had the views been perfectly concentrated.
        rho_concentration: The smallest rho_max over delta, had the views of every sample been perfectly aligned.
        delta_mu: 1 minus the smallest squared norm of a centre, relative to r^2.
        divergence: Largest product of two centres, relative to r^2.
        threshold: What it must stay below, there.
        holds: 1 where it does, else 0.
        bound: Largest error that theory allows; 1 where it says nothing.
        vacuous: 1 where it says nothing: no cell's condition holds, or the bound is 1 or more; else 0.
        error: Of the nearest-centre classifier on the clean samples.
    """

    alignment: Tensor
    r_epsilons: Tensor
    r_epsilon_bounds: Tensor
    cell: Tensor
    r_epsilon: Tensor
    rho_max: Tensor
    rho_alignment: Tensor
    rho_concentration: Tensor
    delta_mu: Tensor
    divergence: Tensor
    threshold: Tensor
    holds: Tensor
    bound: Tensor
    vacuous: Tensor
    error: Tensor


def smallest_bound(
    features: Tensor,
    labels: Tensor,
    *,
    sigmas: Tensor,
    deltas: Tensor,
    epsilons: Tensor,
    lipschitz: Tensor | float,
) -> SmallestBound:
    r"""The smallest bound over distances delta and accuracies epsilon.

    The best cell is the one with the smallest bound among those whose condition holds; where none does, the one with
    the largest threshold, which comes nearest to it.

    Args:
        features: Of A views of N samples, all of one norm, shape (N, A, D); the first view is the clean sample.
        labels: Classes, shape (N,), integers from 0, none of them empty.
        sigmas: Concentration at each delta, (T,).
        deltas: Distances, (T,), not negative.
        epsilons: (E,), not negative.
        lipschitz: L, Lipschitz constant of the features with respect to the samples.

    Returns:
        The parts of the bound there.

    Raises:
        InputError: As `generalization_bound`, or where there are not as many sigmas as deltas.

    References:
        Huang, Yi, Zhao, Jiang, "Towards the Generalization of Contrastive Self-Supervised Learning", 2021, theorems 1
        and 2.

    Example:
        >>> features = torch.tensor([[[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2])
        >>> grid = {"sigmas": torch.ones(2), "deltas": torch.tensor([0.0, 1.0]), "epsilons": torch.tensor([0.0])}
        >>> found = smallest_bound(features, torch.tensor([0, 1]), lipschitz=1.0, **grid)
        >>> found.cell.tolist(), float(found.bound), float(found.vacuous)
        ([0, 0], 0.0, 0.0)
    """
    check_shape(features, "features", "N+ A+ D+")
    check_shape(deltas, "deltas", "T+")
    check_shape(sigmas, "sigmas", str(len(deltas)))
    check_shape(epsilons, "epsilons", "E+")
    for name, values, most in (
        ("sigmas", sigmas, 1.0),
        ("deltas", deltas, torch.inf),
        ("epsilons", epsilons, torch.inf),
    ):
        check_finite(values, name)
        if not 0 <= float(values.min()) <= float(values.max()) <= most:
            span = "in [0, 1]" if most == 1 else "of at least 0"
            raise InputError(
                f"Expected `{name}` {span}, got {float(values.min()):g} to {float(values.max()):g}; pass such numbers."
            )
    sigmas, deltas, epsilons = (one.to(features.device) for one in (sigmas, deltas, epsilons))
    found = generalization_bound(
        features, labels, sigma=sigmas[:, None], delta=deltas[:, None], epsilon=epsilons, lipschitz=lipschitz
    )
    score = found.bound.nan_to_num(nan=torch.inf) if found.holds.any() else -found.threshold
    # the first of those that rounding alone tells apart, so that another order of samples chooses the same
    best = int((score <= score.min() + _TIE * score.min().abs().clamp(min=1)).flatten().nonzero()[0])
    cell = divmod(best, len(epsilons))
    bound = found.bound[cell].nan_to_num(nan=1.0).clamp(max=1.0)
    radius, smallest_share = features[0, 0].double().norm(), labels.bincount().min() / len(labels)
    aligned = spread_of_classes(1.0, 0.0, epsilons / radius, found.r_epsilon / smallest_share)
    concentrated = spread_of_classes(sigmas, lipschitz * deltas / radius, 0.0, 0.0)
    alignment = _alignment(features)
    return SmallestBound(
        alignment=alignment,
        r_epsilons=found.r_epsilon,
        r_epsilon_bounds=_misaligned_at_most(alignment, features.shape[1], epsilons),
        cell=torch.tensor(cell),
        r_epsilon=found.r_epsilon[cell[1]],
        rho_max=found.rho_max[cell],
        rho_alignment=aligned.min(),
        rho_concentration=concentrated.min(),
        delta_mu=found.delta_mu,
        divergence=found.divergence,
        threshold=found.threshold[cell],
        holds=found.holds[cell].double(),
        bound=bound,
        vacuous=(bound == 1).double(),
        error=found.error,
    )


def epsilon_levels(features: Tensor, num_levels: int = 256) -> Tensor:
    """Distances of views among which the bound is smallest: only at those that occur does the share beyond them fall.

    Args:
        features: Of A views of N samples, shape (N, A, D).
        num_levels: Most levels; where there are more samples, quantiles.

    Returns:
        Largest distance between two views of a sample, in rising order, float64.
    """
    spreads = view_spreads(features.double()).sort().values
    places = torch.linspace(0, len(spreads) - 1, min(len(spreads), num_levels)).round().long()
    return spreads[places.to(spreads.device)] * (1 + 1e-9)  # lest rounding leave one beyond itself


def _alignment(features: Tensor) -> Tensor:
    # the mean over ordered pairs a != b of |f_a - f_b|^2 is twice the variance over views with A - 1 below
    return 2 * features.double().var(dim=1).sum(1).mean()


def _misaligned_at_most(alignment: Tensor, num_views: int, epsilons: Tensor) -> Tensor:
    # Markov: eps^2 [largest distance > eps] <= sum over unordered pairs of views of |f_a - f_b|^2
    pairs = num_views * (num_views - 1) / 2
    shares = pairs * alignment / epsilons.double().square()
    return shares.nan_to_num(nan=0.0).clamp(max=1.0)  # identical views at epsilon 0
