r"""Ridge regression onto one-hot labels, in closed form from sums over samples.

The sums add over batches and ranks, so that the probe never holds more than one batch of features. Where it holds all
rows anyway, and they are fewer than the features, their N x N products are the cheaper way to the same classifier.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lightning_ssl_theory.checks import (
    check_callable,
    check_finite,
    check_instance,
    check_integer,
    check_positive,
    check_shape,
    check_targets,
    check_two_classes,
)
from lightning_ssl_theory.distributed import AllGatherRows, AllSum, identity
from lightning_ssl_theory.moments import class_sums, to_float64, variance_from_sums
from lightning_ssl_theory.probes.linear_classifier import LinearClassifier, on_raw_features, standardised


@dataclass(frozen=True)
class RidgeStatistics:
    """The sums over N labelled samples that a ridge probe needs; they add with `+`.

    Attributes:
        class_count: Number of samples of each class, shape (C,), float64.
        class_sum: Sum of the features of each class, shape (C, D), float64.
        outer_sum: Sum of x x^T, shape (D, D), float64.
    """

    class_count: Tensor
    class_sum: Tensor
    outer_sum: Tensor

    def __add__(self, other: "RidgeStatistics") -> "RidgeStatistics":
        return RidgeStatistics(
            self.class_count + other.class_count,
            self.class_sum + other.class_sum,
            self.outer_sum + other.outer_sum,
        )

    def over_ranks(self, all_sum: AllSum) -> "RidgeStatistics":
        """The statistics of all ranks together.

        Args:
            all_sum: Sums a tensor over the ranks.

        Returns:
            The sums, equal on every rank. C + C D + D^2 numbers cross, in one buffer.
        """
        own = (self.class_count, self.class_sum, self.outer_sum)
        total = all_sum(torch.cat([part.reshape(-1) for part in own]))
        parts = total.split([part.numel() for part in own])
        return RidgeStatistics(*(part.view_as(mine) for part, mine in zip(parts, own, strict=True)))


def ridge_statistics(features: Tensor, targets: Tensor, num_classes: int) -> RidgeStatistics:
    """The sums of one batch.

    Args:
        features: Shape (N, D), any real dtype; N = 0 gives zeros, for a rank without data.
        targets: Class of each row, shape (N,), integers in 0..C-1.
        num_classes: Number of classes C.

    Returns:
        RidgeStatistics. O(N D (C + D)) time, O(N (C + D) + D^2) memory.

    Example:
        >>> x, y = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 1, 1])
        >>> total = ridge_statistics(x[:2], y[:2], 2) + ridge_statistics(x[2:], y[2:], 2)
        >>> total.class_sum.flatten().tolist(), total.outer_sum.item()
        ([1.0, 6.0], 21.0)
    """
    check_shape(features, "features", "N D")
    check_integer(num_classes, "num_classes")
    check_targets(targets, len(features), num_classes)
    check_finite(features, "features")
    exact = to_float64(features)
    return RidgeStatistics(*class_sums(exact, targets, num_classes), exact.mT @ exact)


def ridge_classifier(statistics: RidgeStatistics, lamb: float = 1e-2) -> LinearClassifier:
    r"""The least-squares classifier of standardised features with a quadratic penalty.

    .. math:: \min_{W, b} \frac1N \sum_n \| e_{y_n} - W \tilde x_n - b \|^2 + \lambda \|W\|_F^2

    with :math:`\tilde x` of mean 0 and variance 1 (1/N) and constant features left out, so
    :math:`W = S_{y \tilde x} (R + \lambda I)^{-1}` with R the correlation matrix. lamb is relative to the
    mean error: scikit-learn's `alpha` is N lamb.

    Args:
        statistics: Sums over all batches and ranks.
        lamb: Penalty > 0; 1e-2 adds a hundredth of a standardised feature's variance to R's diagonal.

    Returns:
        A LinearClassifier on raw features; classes without samples are never predicted. O(D^3 + D^2 C) time.

    Example:
        >>> x, y = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
        >>> classifier = ridge_classifier(ridge_statistics(x, y, 2), lamb=1.0)
        >>> classifier.weight.flatten().tolist(), classifier.bias.tolist()
        ([-0.25, 0.25], [0.5, 0.5])
    """
    check_instance(statistics, "statistics", RidgeStatistics)
    check_positive(lamb, "lamb")
    check_two_classes(statistics.class_count)
    is_present = statistics.class_count > 0
    num_samples, total = statistics.class_count.sum(), statistics.class_sum.sum(0)
    mean = total / num_samples
    variance = variance_from_sums(num_samples, total, statistics.outer_sum.diagonal())
    inverse_std = torch.where(variance > 0, variance, torch.inf).rsqrt()

    covariance = statistics.outer_sum / num_samples - torch.outer(mean, mean)
    correlation = covariance * torch.outer(inverse_std, inverse_std)
    share = statistics.class_count[is_present] / num_samples  # E[e_y]
    cross = statistics.class_sum[is_present] / num_samples - torch.outer(share, mean)  # (P, D), Cov(e_y, x)
    penalised = correlation + lamb * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
    weight = torch.linalg.solve(penalised, (cross * inverse_std).mT).mT
    return on_raw_features(weight, share, mean=mean, inverse_std=inverse_std, is_present=is_present)


def ridge_classifier_of_rows(
    features: Tensor,
    targets: Tensor,
    num_classes: int,
    lamb: float = 1e-2,
    *,
    all_sum: AllSum = identity,
    all_gather_rows: AllGatherRows = identity,
) -> LinearClassifier:
    r"""The classifier of `ridge_classifier` from rows that may be spread over ranks, by the smaller of N and D.

    .. math:: W = Y^\top (\tilde X \tilde X^\top + N \lambda I)^{-1} \tilde X

    for N < D samples over all ranks, with Y the one-hot labels: every rank receives all rows, which are fewer numbers
    than the D^2 sums that cross otherwise. It calls the collectives equally often on every rank, so ranks must agree
    beforehand that none of them will raise on its rows.

    Args:
        features: Rows of this rank, shape (N_r, D), any real dtype; N_r = 0 is allowed.
        targets: Class of each row, shape (N_r,), integers in 0..C-1.
        num_classes: Number of classes C.
        lamb: Penalty > 0, see `ridge_classifier`.
        all_sum: Sums a tensor over the ranks.
        all_gather_rows: Puts the rows of all ranks below one another.

    Returns:
        A LinearClassifier on raw features, the same on every rank. O(N D min(N, D)) time;
        O(D min(N, D)) memory beside the rows.

    Example:
        >>> x, y = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), torch.tensor([0, 1])
        >>> ridge_classifier_of_rows(x, y, 2, lamb=1.0).weight.tolist()
        [[-0.25, 0.0, 0.0], [0.25, 0.0, 0.0]]
    """
    check_positive(lamb, "lamb")
    check_callable(all_sum, "all_sum")
    check_callable(all_gather_rows, "all_gather_rows")
    check_shape(features, "features", "N D")
    check_integer(num_classes, "num_classes")
    check_targets(targets, len(features), num_classes)
    check_finite(features, "features")
    num_samples = int(all_sum(torch.tensor(len(features), device=features.device)))
    if num_samples >= features.shape[1]:
        return ridge_classifier(ridge_statistics(features, targets, num_classes).over_ranks(all_sum), lamb)
    exact = to_float64(features)
    rows = all_gather_rows(torch.cat([exact, targets.to(exact)[:, None]], dim=1))
    rows, labels = rows[:, :-1], rows[:, -1].long()
    return _classifier_by_products(rows, one_hot(labels, num_classes).to(rows.dtype), lamb)


def _classifier_by_products(rows: Tensor, membership: Tensor, lamb: float) -> LinearClassifier:
    class_count = membership.sum(0)
    check_two_classes(class_count)
    is_present, num_samples = class_count > 0, class_count.sum()
    inputs, mean, inverse_std = standardised(rows, num_samples)
    products = inputs @ inputs.mT
    products.diagonal().add_(num_samples * lamb)
    weight = torch.linalg.solve(products, membership[:, is_present]).mT @ inputs
    share = class_count[is_present] / num_samples
    return on_raw_features(weight, share, mean=mean, inverse_std=inverse_std, is_present=is_present)
