"""A linear classifier on raw features, whichever probe fitted it."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_shape
from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.moments import EPS, to_float64


class LinearClassifier(NamedTuple):
    """Weights and biases of C classes on D features, in float64.

    Classes without samples in the fit have weight 0 and bias -inf: they are never predicted.

    Example:
        >>> classifier = LinearClassifier(torch.eye(2), torch.zeros(2))
        >>> classifier.scores(torch.tensor([[3.0, 1.0]])).tolist()
        [[3.0, 1.0]]
    """

    weight: Tensor
    """Shape (C, D)."""
    bias: Tensor
    """Shape (C,)."""

    def scores(self, features: Tensor) -> Tensor:
        """The linear score of every class.

        Args:
            features: Shape (N, D), any real dtype.

        Returns:
            Shape (N, C), float64.
        """
        check_shape(features, "features", f"N {self.weight.shape[1]}")
        weight, bias = to_float64(self.weight), to_float64(self.bias)
        return to_float64(features).to(weight.device) @ weight.mT + bias


def standardised(
    rows: Tensor, num_samples: Tensor, all_sum: AllSum = identity
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of mean 0 and variance 1 (1/N) over all ranks, constant features left out as zeros.

    Args:
        rows: Rows of this rank, shape (N_r, D), float64.
        num_samples: Number of rows N of all ranks, a scalar.
        all_sum: Sums a tensor over the ranks.

    Returns:
        The rows, (N_r, D); the mean that was taken off, (D,); one over the standard deviation, (D,), 0 for constants.
    """
    mean = all_sum(rows.sum(0)) / num_samples
    centred = rows - mean
    std = (all_sum(centred.square().sum(0)) / num_samples).sqrt()
    # The mean of a constant is off by up to N eps of itself, and so is what is left of it.
    inverse_std = std.where(std > num_samples * EPS * mean.abs(), torch.inf).reciprocal()
    return centred * inverse_std, mean, inverse_std


def on_raw_features(
    weight: Tensor, bias: Tensor, *, mean: Tensor, inverse_std: Tensor, is_present: Tensor
) -> LinearClassifier:
    """The classifier on features x that equals one fitted on (x - mean) * inverse_std.

    Args:
        weight: For the P classes that were fitted, shape (P, D).
        bias: Shape (P,).
        mean: Shape (D,).
        inverse_std: Shape (D,); 0 for constant features.
        is_present: Which of the C classes were fitted, shape (C,), bool.

    Returns:
        A LinearClassifier of all C classes.
    """
    raw_weight = weight.new_zeros(len(is_present), weight.shape[1])
    raw_bias = bias.new_full((len(is_present),), -torch.inf)
    raw_weight[is_present] = weight * inverse_std
    raw_bias[is_present] = bias - (weight * inverse_std) @ mean
    return LinearClassifier(raw_weight, raw_bias)
