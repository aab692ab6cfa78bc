r"""The symmetric matrices M that turn connections into covariance operators, OP = K M K^T.

Rows and columns of M are the S = N A views of N samples, the views of a sample next to each other. Everything that
differs between the plug-in, the unbiased, the pair-weighted and the intra-augmentation operator is in M.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Theorems 3 and 4.
"""

from typing import Literal

import torch
from torch import Tensor

from lightning_ssl_theory.checks import (
    InputError,
    check_device,
    check_finite,
    check_instance,
    check_integer,
    check_shape,
    check_word,
)

Estimator = Literal["plugin", "unbiased"]
Part = Literal["signal", "augmentation"]


def check_estimator(estimator: str) -> None:
    """Raise InputError unless an estimator is known."""
    check_word(estimator, "estimator", Estimator)


def laplacian(weights: Tensor) -> Tensor:
    """The graph Laplacian diag(xi 1) - xi of symmetric pair weights xi, (N, N); the diagonal of xi is ignored."""
    check_shape(weights, "weights", "N N")
    check_finite(weights, "weights")
    off_diagonal = weights - weights.diagonal().diag()
    return off_diagonal.sum(1).diag() - off_diagonal


def pair_coefficients(
    num_samples: int,
    num_views: int,
    *,
    weights: Tensor | None = None,
    estimator: Estimator = "plugin",
    part: Part = "signal",
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> Tensor:
    r"""The matrix M of an operator OP = K M K^T.

    With Lap = diag(xi 1) - xi, the signal part is `N^-2 sum_ij Lap_ij barK_i barK_j^T` (plug-in). The unbiased
    estimator replaces each `barK_i barK_i^T` on its diagonal by the mean over pairs of different views, and xi = 1
    by N / (N - 1), which is THEORY's U = S - W / A. The augmentation part is the mean over samples of the covariance
    over views, normalised by A (plug-in) or A - 1 (unbiased).

    Args:
        num_samples: N.
        num_views: A.
        weights: Symmetric pair weights xi, (N, N); `None` means xi = 1.
        estimator: Which estimator.
        part: The covariance over samples, or the mean covariance over the views of a sample.
        dtype: Floating type of the result.
        device: Device of the result.

    Returns:
        (N A, N A), symmetric, its rows summing to zero.

    Raises:
        InputError: If there are too few views or samples for the estimator, the estimator is unknown, or there are
            weights for the augmentation part.

    Example:
        >>> pair_coefficients(2, 1).tolist()
        [[0.25, -0.25], [-0.25, 0.25]]
    """
    check_estimator(estimator)
    check_word(part, "part", Part)
    check_integer(num_samples, "num_samples")
    check_integer(num_views, "num_views")
    check_instance(dtype, "dtype", torch.dtype)
    if device is not None:
        check_device(device, "device")
    needs_views = estimator == "unbiased" or part == "augmentation"
    if needs_views and num_views < 2:
        raise InputError(
            f"Expected `views` with at least 2 views of each sample, got {num_views}; "
            "the plug-in signal operator alone works with one."
        )
    if part == "signal" and num_samples < 2:
        raise InputError(
            f"Expected at least 2 samples for a covariance, got {num_samples}; pass a larger batch."
        )
    ones = torch.ones(num_views, num_views, dtype=dtype, device=device)
    eye = torch.eye(num_views, dtype=dtype, device=device)
    same_sample = torch.eye(num_samples, dtype=dtype, device=device)
    if part == "augmentation":
        if weights is not None:
            raise InputError(
                "Expected no pair weight for the augmentation part, got one; leave `pair_weight` out."
            )
        views = num_views if estimator == "plugin" else num_views - 1
        return torch.kron(same_sample, (eye - ones / num_views) / (num_samples * views))
    if weights is None:
        ratio = 1.0 if estimator == "plugin" else num_samples / (num_samples - 1)
        weights = torch.full((num_samples, num_samples), ratio, dtype=dtype, device=device)
    check_shape(weights, "weights", f"{num_samples} {num_samples}")
    lap = laplacian(weights.to(dtype)) / num_samples**2
    coefficients = torch.kron(lap, ones / num_views**2)
    if estimator == "unbiased":
        within = (ones - eye) / (num_views * (num_views - 1)) - ones / num_views**2
        coefficients = coefficients + torch.kron(lap.diagonal().diag(), within)
    return coefficients
