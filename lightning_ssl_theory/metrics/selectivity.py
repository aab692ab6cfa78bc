r"""Selectivity of neurons for classes, with a null distribution in closed form.

.. math:: v_{kj} = \tfrac12 \big( E[f_j | y = k] - E[f_j | y \ne k] \big)

When the labels are permuted at random, the mean over the n_k samples of class k is a mean of draws without
replacement. So :math:`v_{kj}` has mean 0 and variance

.. math:: \frac{S_j^2\, N}{4\, n_k (N - n_k)}, \quad S_j^2 = \frac{1}{N-1} \sum_n (f_{nj} - \bar f_j)^2,

exactly, for any features. Its distribution is near normal when n_k and N - n_k are large (about 30 and more;
more for features that are rarely nonzero).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.special import ndtri

from lightning_ssl_theory.checks import (
    check_finite,
    check_integer,
    check_number,
    check_shape,
    check_targets,
    check_two_classes,
)
from lightning_ssl_theory.metrics.sum_metric import SumMetric
from lightning_ssl_theory.moments import class_sums, to_float64, variance_from_sums


class SelectivityValues(NamedTuple):
    """Selectivity of D neurons for C classes. Rows of classes without samples are NaN."""

    values: Tensor
    """v (C, D), in units of the features."""
    z_scores: Tensor
    """v over its standard deviation under random labels (C, D); 0 for constant neurons."""
    is_selective: Tensor
    """Whether the largest absolute z-score of a neuron exceeds the threshold (D,), bool."""
    selective_share: Tensor
    """Share of selective neurons among all D."""
    mean: Tensor
    """Mean over neurons of the largest absolute v over classes."""
    max: Tensor
    """Largest absolute v."""
    max_z: Tensor
    """Largest absolute z-score."""
    z_threshold: Tensor
    """Two-sided normal quantile at level alpha / (number of classes with samples times D)."""


class _Sums(NamedTuple):
    class_count: Tensor  # (C,)
    class_sum: Tensor  # (C, D)
    square_sum: Tensor  # (D,)


def selectivity(
    features: Tensor, targets: Tensor, num_classes: int, *, alpha: float = 0.05
) -> SelectivityValues:
    r"""Selectivity of each neuron for each class, and the share of neurons beyond chance.

    .. math:: v_{kj} = \tfrac12 \big( E[f_j | y = k] - E[f_j | y \ne k] \big), \quad
        z_{kj} = v_{kj} \Big/ \sqrt{S_j^2 N / (4 n_k (N - n_k))}

    A neuron is selective when :math:`\max_k |z_{kj}|` exceeds the two-sided normal quantile at level
    alpha / (C D): under random labels the chance of any selective neuron is then at most about alpha.

    Args:
        features: Activations, shape (N, D), any real dtype.
        targets: Class of each row, shape (N,), integers in 0..C-1.
        num_classes: Number of classes C; those without samples are left out.
        alpha: Chance of one false claim or more over all neurons and classes, in (0, 1).

    Returns:
        SelectivityValues in float64. O(N C D) time, O(N (C + D) + C D) memory.

    References:
        Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
        Networks", 2020 (selectivity); Bonferroni's correction for C D tests.

    Example:
        >>> x = torch.tensor([[0.0], [2.0], [4.0], [6.0]])
        >>> selectivity(x, torch.tensor([0, 0, 1, 1]), 2).values.tolist()
        [[-2.0], [2.0]]
    """
    check_alpha(alpha)
    return _compute(_update(features, targets, num_classes), alpha)


class Selectivity(SumMetric):
    """Selectivity of D neurons for C classes over all batches and ranks; see `selectivity`.

    State: C + C D + D float64 numbers.

    Args:
        num_features: Number of neurons D.
        num_classes: Number of classes C.
        alpha: Chance of one false claim or more over all neurons and classes, in (0, 1).
        **kwargs: Passed on to `torchmetrics.Metric`.

    Example:
        >>> metric = Selectivity(num_features=1, num_classes=2)
        >>> metric.update(torch.tensor([[0.0], [2.0]]), torch.tensor([0, 0]))
        >>> metric.update(torch.tensor([[4.0], [6.0]]), torch.tensor([1, 1]))
        >>> float(metric.compute().max)
        2.0
    """

    class_count: Tensor
    class_sum: Tensor
    square_sum: Tensor

    def __init__(self, num_features: int, num_classes: int, *, alpha: float = 0.05, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_integer(num_features, "num_features")
        check_integer(num_classes, "num_classes")
        check_alpha(alpha)
        self.num_features, self.num_classes, self.alpha = num_features, num_classes, alpha
        self._declare_sums(
            class_count=(num_classes,), class_sum=(num_classes, num_features), square_sum=(num_features,)
        )

    def update(self, features: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            features: Shape (N, D).
            targets: Shape (N,), integers in 0..C-1.
        """
        check_shape(features, "features", f"N {self.num_features}")
        self._add_sums(_update(features, targets, self.num_classes)._asdict())

    def compute(self) -> SelectivityValues:
        """The values over everything that was added.

        Returns:
            SelectivityValues in float64.
        """
        return _compute(_Sums(self.class_count, self.class_sum, self.square_sum), self.alpha)


def check_alpha(alpha: float) -> None:
    """Raise InputError unless a level lies between 0 and 1."""
    check_number(alpha, "alpha", "(0, 1)", advice="pass a level such as 0.05")


def _update(features: Tensor, targets: Tensor, num_classes: int) -> _Sums:
    check_shape(features, "features", "N D+")
    check_integer(num_classes, "num_classes")
    check_targets(targets, len(features), num_classes)
    check_finite(features, "features")
    exact = to_float64(features)
    return _Sums(*class_sums(exact, targets, num_classes), exact.square().sum(0))


def _compute(sums: _Sums, alpha: float) -> SelectivityValues:
    check_two_classes(sums.class_count)
    is_present = sums.class_count > 0
    n_k = sums.class_count[:, None]
    n = n_k.sum()
    total = sums.class_sum.sum(0)
    # E[f | k] - E[f | not k] = (E[f | k] - E[f]) N / (N - n_k); 0/0 = NaN marks classes without samples.
    values = (sums.class_sum / n_k - total / n) * n / (2 * (n - n_k))
    sample_variance = variance_from_sums(n, total, sums.square_sum) * n / (n - 1)
    null_std = (sample_variance * n / (4 * n_k * (n - n_k))).sqrt()
    z_scores = values / null_std.where(null_std > 0, torch.inf)
    strongest, strongest_z = (x[is_present].abs().amax(0) for x in (values, z_scores))
    threshold = -ndtri(alpha / (2 * is_present.sum() * values.shape[1]).to(n.dtype))
    is_selective = strongest_z > threshold
    return SelectivityValues(
        values=values,
        z_scores=z_scores,
        is_selective=is_selective,
        selective_share=is_selective.to(n.dtype).mean(),
        mean=strongest.mean(),
        max=strongest.max(),
        max_z=strongest_z.max(),
        z_threshold=threshold,
    )
