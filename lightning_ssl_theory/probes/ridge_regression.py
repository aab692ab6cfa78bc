r"""Ridge regression onto numbers, with the penalty that leave-one-out chooses."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_positive, check_sequence, check_shape
from lightning_ssl_theory.moments import EPS, to_float64

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-8, 7))


class LinearRegressor(NamedTuple):
    """Weights and biases of K targets on D features, in float64.

    Example:
        >>> regressor = LinearRegressor(torch.tensor([[2.0, 0.0]]), torch.tensor([1.0]), 1e-2)
        >>> regressor.predictions(torch.tensor([[3.0, 1.0]])).tolist()
        [[7.0]]
    """

    weight: Tensor
    """Shape (K, D)."""
    bias: Tensor
    """Shape (K,)."""
    penalty: float
    """The penalty lambda that was chosen."""

    def predictions(self, features: Tensor) -> Tensor:
        """Predicted targets.

        Args:
            features: Shape (N, D), any real dtype.

        Returns:
            Shape (N, K), float64.
        """
        check_shape(features, "features", f"N {self.weight.shape[1]}")
        weight, bias = to_float64(self.weight), to_float64(self.bias)
        return to_float64(features).to(weight.device) @ weight.mT + bias


def ridge_regression(
    features: Tensor, targets: Tensor, *, penalties: Sequence[float] = PENALTIES
) -> LinearRegressor:
    r"""Least squares with a quadratic penalty on all weights alike.

    .. math:: \min_{W, b} \frac1N \sum_n \| y_n - W x_n - b \|^2 + \lambda\, v\, \|W\|_F^2

    with v the mean variance (1/N) of the features. Unlike the library's classifiers it does not standardise each of
    them: a neuron that fired once among few labels would be blown up. Of the penalties it takes the one with
    the least leave-one-out error over all targets, :math:`e_n / (1 - h_n)` with h the diagonal of the hat matrix.

    Args:
        features: Shape (N, D), N >= 2, any real dtype.
        targets: Shape (N, K), any real dtype.
        penalties: Values of lambda to choose from, > 0.

    Returns:
        A LinearRegressor on raw features. O(N D min(N, D)) time for the decomposition, O(N min(N, D)) for each
        penalty and O(N D) memory.

    Raises:
        InputError: If there are fewer than two rows, or no positive penalties.

    References:
        T. Hastie, R. Tibshirani, J. Friedman, "The Elements of Statistical Learning", 2009, eq. 7.51.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> regressor = ridge_regression(x, 2 * x + 1, penalties=[1e-9])
        >>> [round(float(value), 6) for value in (regressor.weight, regressor.bias)]
        [2.0, 1.0]
    """
    check_shape(features, "features", "N D")
    check_shape(targets, "targets", f"{len(features)} K")
    check_finite(features, "features")
    check_finite(targets, "targets")
    if len(features) < 2:
        raise InputError(f"Expected at least 2 rows of `features`, got {len(features)}; pass more samples.")
    check_sequence(penalties, "penalties")
    for penalty in penalties:
        check_positive(penalty, "penalties")
    exact, goals = to_float64(features), to_float64(targets)
    mean, goal_mean = exact.mean(0), goals.mean(0)
    centred = exact - mean
    variance = float(centred.square().mean())
    left, singular, right = torch.linalg.svd(centred, full_matrices=False)
    squares = singular.square() / (len(exact) * (variance or 1.0))
    along = left.mT @ (goals - goal_mean)  # (R, K)
    errors = [_left_out_error(left, squares, along, goals - goal_mean, penalty) for penalty in penalties]
    penalty = penalties[errors.index(min(errors))]
    shrunk = (singular / (singular.square() + len(exact) * (variance or 1.0) * penalty)).unsqueeze(1) * along
    weight = (right.mT @ shrunk).mT
    return LinearRegressor(weight, goal_mean - weight @ mean, penalty)


def r2_score(predictions: Tensor, targets: Tensor) -> Tensor:
    r"""Share of the targets' variance that predictions explain.

    .. math:: R^2_k = 1 - \frac{\sum_n (y_{nk} - \hat y_{nk})^2}{\sum_n (y_{nk} - \bar y_k)^2}

    Args:
        predictions: Shape (N, K).
        targets: Shape (N, K), no column constant.

    Returns:
        Shape (K,), float64; at most 1, negative for predictions worse than the mean.

    Raises:
        InputError: If a target is constant.

    Example:
        >>> y = torch.tensor([[0.0], [2.0]])
        >>> r2_score(y, y).tolist(), r2_score(torch.ones(2, 1), y).tolist()
        ([1.0], [0.0])
    """
    check_shape(targets, "targets", "N+ K")
    check_shape(predictions, "predictions", f"{len(targets)} {targets.shape[1]}")
    check_finite(predictions, "predictions")
    check_finite(targets, "targets")
    guess, goals = to_float64(predictions), to_float64(targets)
    spread = (goals - goals.mean(0)).square().sum(0)
    if not bool((spread > 0).all()):
        raise InputError("Expected `targets` that vary in every column, got a constant one; leave it out.")
    return 1 - (goals - guess).square().sum(0) / spread


# `squares`: variances along the singular directions, in units of the mean variance.
def _left_out_error(left: Tensor, squares: Tensor, along: Tensor, goals: Tensor, penalty: float) -> float:
    kept = squares / (squares + penalty)
    fitted = left @ (kept.unsqueeze(1) * along)
    leverage = left.square() @ kept + 1 / len(goals)  # the mean is fitted too
    slack = (1 - leverage).clamp(min=EPS).unsqueeze(1)
    return float(((goals - fitted) / slack).square().mean())
