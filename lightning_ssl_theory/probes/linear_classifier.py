"""A linear classifier on raw features, whichever probe fitted it."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_shape
from lightning_ssl_theory.moments import to_float64


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
