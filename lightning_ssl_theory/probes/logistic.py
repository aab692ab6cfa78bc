r"""Logistic regression by L-BFGS, on rows that may be spread over ranks."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import one_hot

from lightning_ssl_theory.checks import (
    check_callable,
    check_finite,
    check_integer,
    check_positive,
    check_shape,
    check_targets,
    check_two_classes,
)
from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.moments import to_float64
from lightning_ssl_theory.probes.even_curvature import EvenCurvature, even_curvature
from lightning_ssl_theory.probes.linear_classifier import LinearClassifier, on_raw_features, standardised

# The objective's curvature along W is at least l2: each weight adds at most 1e-12 / (2 l2) to the minimum.
_TOLERANCE = 1e-6

_Objective = Callable[[Tensor], tuple[float, Tensor]]


def logistic_classifier(
    features: Tensor,
    targets: Tensor,
    num_classes: int,
    *,
    l2: float = 1e-3,
    all_sum: AllSum = identity,
    max_iterations: int = 1000,
) -> LinearClassifier:
    r"""The multinomial logistic classifier of standardised features with a quadratic penalty.

    .. math:: \min_{W, b} \frac1N \sum_n -\log \mathrm{softmax}(W \tilde x_n + b)_{y_n}
        + \frac{\lambda}{2} \|W\|_F^2

    with :math:`\tilde x` of mean 0 and variance 1 (1/N) over all ranks and constant features left out.
    :math:`\lambda` = l2 is relative to the mean loss: scikit-learn's `C` is 1/(N l2).

    Each rank holds its own rows; mean, deviations, covariance, and at each evaluation the loss with its gradient
    (1 + P (D + 1) numbers, P the classes with samples) are summed over ranks. Every rank runs the same L-BFGS
    on the same numbers and ends with the same classifier. It calls `all_sum` equally often on every rank, so
    ranks must agree beforehand that none of them will raise on its rows.

    Args:
        features: Rows of this rank, shape (N_r, D), any real dtype; N_r = 0 is allowed.
        targets: Class of each row, shape (N_r,), integers in 0..C-1.
        num_classes: Number of classes C.
        l2: Penalty > 0.
        all_sum: Sums a tensor over the ranks.
        max_iterations: Bound on the L-BFGS iterations. The fit ends when no entry of the gradient exceeds
            1e-6, else with a RuntimeWarning.

    Returns:
        A LinearClassifier on raw features; classes without samples are never predicted. O(N D^2 + D^3) time and
        O(N D P) for each of some 50 to 150 evaluations, O(N (D + P) + D^2) memory, in float64.

    Example:
        >>> x, y = torch.tensor([[-1.0], [-2.0], [2.0], [1.0]]), torch.tensor([0, 0, 1, 1])
        >>> classifier = logistic_classifier(x, y, 2)
        >>> classifier.scores(x).argmax(1).tolist()
        [0, 0, 1, 1]
    """
    check_positive(l2, "l2")
    check_callable(all_sum, "all_sum")
    check_integer(max_iterations, "max_iterations", at_most=10**8)
    check_shape(features, "features", "N D")
    check_integer(num_classes, "num_classes")
    check_targets(targets, len(features), num_classes)
    check_finite(features, "features")
    exact = to_float64(features)
    membership = one_hot(targets.to(exact.device, torch.int64), num_classes).to(exact.dtype)  # (N, C)
    class_count = all_sum(membership.sum(0))
    check_two_classes(class_count)
    is_present, num_samples = class_count > 0, class_count.sum()
    inputs, mean, inverse_std = standardised(exact, num_samples, all_sum)
    objective = _objective(inputs, membership[:, is_present], l2=l2, num_samples=num_samples, all_sum=all_sum)
    num_present = int(is_present.sum())
    curvature = even_curvature(inputs, num_present, l2=l2, num_samples=num_samples, all_sum=all_sum)
    start = inputs.new_zeros(num_present, inputs.shape[1] + 1)
    solution = _minimum(objective, curvature, start, max_iterations=max_iterations)
    return on_raw_features(
        solution[:, :-1], solution[:, -1], mean=mean, inverse_std=inverse_std, is_present=is_present
    )


def _objective(
    inputs: Tensor, membership: Tensor, *, l2: float, num_samples: Tensor, all_sum: AllSum
) -> _Objective:
    # Value and gradient as functions of the (P, D + 1) weights and biases.

    def value_and_gradient(parameters: Tensor) -> tuple[float, Tensor]:
        weight, bias = parameters[:, :-1], parameters[:, -1]
        log_shares = (inputs @ weight.mT + bias).log_softmax(1)  # (N, P)
        residual = log_shares.exp() - membership
        loss = -(membership * log_shares).sum()
        gradient = torch.cat([residual.mT @ inputs, residual.sum(0)[:, None]], 1)
        summed = all_sum(torch.cat([loss[None], gradient.flatten()])) / num_samples
        penalty_gradient = torch.cat([l2 * weight, torch.zeros_like(bias)[:, None]], 1)
        value = summed[0] + 0.5 * l2 * weight.square().sum()
        return float(value), summed[1:].reshape(parameters.shape) + penalty_gradient

    return value_and_gradient


def _minimum(
    objective: _Objective, curvature: EvenCurvature, start: Tensor, *, max_iterations: int
) -> Tensor:
    gradient = start

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal gradient
        value, gradient = objective(curvature.weights(_like(flat, start)))
        return value, curvature.gradient(gradient).flatten().cpu().numpy()

    def stop_at_minimum(_: np.ndarray) -> None:
        if gradient.abs().max() <= _TOLERANCE:
            raise StopIteration

    result = minimize(
        value_and_gradient,
        start.flatten().cpu().numpy(),
        jac=True,
        method="L-BFGS-B",
        callback=stop_at_minimum,
        # the gradient by the weights decides, not that by the coordinates, and not the last step's gain
        options={"gtol": 0.0, "ftol": 0.0, "maxiter": max_iterations, "maxfun": 10 * max_iterations},
    )
    solution = curvature.weights(_like(result.x, start))
    largest = float(objective(solution)[1].abs().max())
    if largest > _TOLERANCE:
        warnings.warn(
            f"Expected logistic regression to reach a gradient of {_TOLERANCE:.0e}, got {largest:.1e} after "
            f"{result.nit} iterations; raise `max_iterations` or `l2`.",
            RuntimeWarning,
            stacklevel=3,
        )
    return solution


def _like(flat: np.ndarray, start: Tensor) -> Tensor:
    return torch.from_numpy(flat).to(start.device).reshape(start.shape)
