"""Coordinates in which the objective of logistic regression bends alike in all directions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.distributed import AllSum

_WIDEST = 4096  # above it the root costs more than the evaluations that it saves
_LEAST_PENALTY = 1e-8  # less may be lost in the rounding of the covariance


class EvenCurvature(NamedTuple):
    """The map between weights W and coordinates V = W L, L L^T the curvature along one class at W = 0.

    Features that copy one another hold L-BFGS for hundreds of steps in W, for tens in V; the minimum is the same.
    """

    root: Tensor | None
    """Lower triangular L, shape (D + 1, D + 1), the bias last; None for V = W."""

    def weights(self, coordinates: Tensor) -> Tensor:
        """Weights W of coordinates V, both (P, D + 1)."""
        if self.root is None:
            return coordinates
        return torch.linalg.solve_triangular(self.root, coordinates, upper=False, left=False)

    def gradient(self, gradient: Tensor) -> Tensor:
        """The gradient with respect to V of that with respect to W, both (P, D + 1)."""
        if self.root is None:
            return gradient
        return torch.linalg.solve_triangular(self.root.mT, gradient, upper=True, left=False)


def even_curvature(
    inputs: Tensor, num_classes: int, *, l2: float, num_samples: Tensor, all_sum: AllSum
) -> EvenCurvature:
    """Coordinates for the mean loss of P classes on inputs of mean 0 over all ranks, with a penalty on the weights.

    Where all classes are equally likely the loss has the curvature C / P along the weights of one class, C the inputs'
    covariance, and 1 / P along its bias.

    Args:
        inputs: Rows of this rank, shape (N_r, D), float64.
        num_classes: P.
        l2: The penalty's curvature.
        num_samples: Number of rows of all ranks, a scalar.
        all_sum: Sums a tensor over the ranks: D^2 numbers.

    Returns:
        The same on every rank, in O(N D^2 + D^3); V = W beyond a width of 4096.
    """
    width = inputs.shape[1]
    if width > _WIDEST:
        return EvenCurvature(None)
    curvature = (inputs.new_ones(width + 1) / num_classes).diag()
    curvature[:-1, :-1] = all_sum(inputs.mT @ inputs) / (num_samples * num_classes)
    curvature[:-1, :-1].diagonal().add_(max(l2, _LEAST_PENALTY))
    return EvenCurvature(torch.linalg.cholesky(curvature))
