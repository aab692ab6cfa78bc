r"""The loss that lets downstream labels boost pretext learning, with least squares that gradients flow through.

.. math:: \mathcal{L}(f) = E\|y - W^*_{y,f} f\|^2 - \lambda\, E\|z - W^*_{z,f} f\|^2

y is downstream, known for n0 samples; z is pretext, known for all; each W* is the best linear reader of f with an
intercept, so that covariances decide. The first term keeps what tells y, the second drops what tells z beyond y.
"""

import warnings

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import (
    InputError,
    check_dtype,
    check_finite,
    check_number,
    check_shape,
)
from lightning_ssl_theory.distributed import all_sum_with_grad, rank
from lightning_ssl_theory.moments import device_with_float64

# a feature of which the ones before it explain all but this share is a combination of them
_SINGULAR = 1e-12


class BoostedLeastSquaresLoss(nn.Module):
    r"""Error of the best linear reader of y, minus lambda times that of the best linear reader of z.

    .. math:: \mathcal{L}(f) = \min_{W,b} E\|y - W f - b\|^2 - \lambda \min_{V,c} E\|z - V f - c\|^2

    Each minimum carries a ridge of :math:`\rho\, v \|W\|_F^2`, v the features' mean variance, so that the value does
    not depend on their scale. Means are over the samples of all ranks, those of y over the n0 labelled ones. The
    minima are differentiated in full, by Cholesky factors of float64 moments; on a device without float64 in float32.

    One collective of (1 + D + K)^2 + (1 + D + M)^2 numbers a call. The value is equal on every rank, and the
    parameters' gradients, once DistributedDataParallel has averaged them, are those of one process on the
    concatenated batch. O(N (D + K + M)^2 + D^3) time. A warning comes once where n0 < D.

    Args:
        lamb: :math:`\lambda \ge 0`; 0 learns from the labels alone. Where the two criteria of the theory can be met,
            it must stay below :math:`1 / \|S_{yy}^{-1} S_{yz}\|_2^2`: `data.largest_boost_weight`.
        ridge: :math:`\rho \ge 0`; 0 is plain least squares, which needs more samples than features.

    Raises:
        InputError: If a number is out of its range.

    References: J. Teng, W. Huang, H. He, "Can pretext-based self-supervised learning be boosted by downstream data? A
    theoretical analysis", AISTATS 2022.

    Example:
        >>> f = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
        >>> y, z = 2 * f, torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])  # f knows all of y and nothing of z
        >>> round(BoostedLeastSquaresLoss(0.5, ridge=0.0)(f, z, y).item(), 6)
        -0.5
    """

    def __init__(self, lamb: float = 0.1, *, ridge: float = 1e-6) -> None:
        super().__init__()
        check_number(lamb, "lamb", "[0, inf)", advice="0 leaves the pretext out")
        check_number(ridge, "ridge", "[0, inf)", advice="0 is plain least squares")
        self.lamb, self.ridge = lamb, ridge
        self._has_warned = False

    def forward(
        self, features: Tensor, pretext: Tensor, downstream: Tensor, is_labelled: Tensor | None = None
    ) -> Tensor:
        """Value of the loss.

        Args:
            features: f of this rank's samples, shape (N, D), floating.
            pretext: z, shape (N, K), floating; classes as one-hot rows.
            downstream: y, shape (N, M), likewise; rows without a label may hold anything.
            is_labelled: Which samples have one, shape (N,), bool; all by default.

        Returns:
            Scalar, float32 for half-precision inputs.

        Raises:
            InputError: If a shape is wrong, a value that counts is not finite, no rank has a label, or the least
                squares are singular.
        """
        parts = self.parts(features, pretext, downstream, is_labelled)
        return parts["downstream"] + parts["pretext"]

    def parts(
        self, features: Tensor, pretext: Tensor, downstream: Tensor, is_labelled: Tensor | None = None
    ) -> dict[str, Tensor]:
        r"""The two terms, which sum to the loss.

        Args:
            features: As in `forward`.
            pretext: As in `forward`.
            downstream: As in `forward`.
            is_labelled: As in `forward`.

        Returns:
            `downstream`, the error of y, and `pretext`, :math:`-\lambda` times that of z.

        Raises:
            InputError: As in `forward`.
        """
        _check_rows(features, pretext, downstream, is_labelled)
        known = downstream if is_labelled is None else downstream[is_labelled]
        readable = features if is_labelled is None else features[is_labelled]
        check_finite(known, "downstream")
        of_pretext, of_downstream = _all_moments((features, pretext), (readable, known))
        num_labels, width = int(of_downstream[0, 0]), features.shape[1]
        if not num_labels:
            raise InputError(
                "Expected `downstream` labels for some samples, got none on any rank; pass a loader with labels, "
                "or train on the pretext alone with another loss."
            )
        self._warn_of_few(num_labels, width)
        error = least_squares_minimum(of_downstream, width, self.ridge)
        pretext_error = least_squares_minimum(of_pretext, width, self.ridge)
        dtype = torch.promote_types(features.dtype, torch.float32)
        return {
            "downstream": error.to(features.device, dtype),
            "pretext": -self.lamb * pretext_error.to(features.device, dtype),
        }

    def _warn_of_few(self, num_labels: int, width: int) -> None:
        if num_labels >= width or self._has_warned:
            return
        self._has_warned = True
        if rank() == 0:
            warnings.warn(
                f"The boosted loss has n0 = {num_labels} downstream labels in a batch for d_f = {width} features: by "
                "Theorem 3 of Teng, Huang, He (2022) its minimiser can then miss both criteria and do worse than "
                "pretext learning without labels; pass more labels or a larger batch, or a narrower head.",
                UserWarning,
                stacklevel=4,
            )


def least_squares_minimum(moments: Tensor, num_features: int, ridge: float) -> Tensor:
    r"""Least mean squared error of a linear reader with an intercept, from sums over samples.

    .. math:: \min_{W,b} \frac1N \sum_n \|t_n - W f_n - b\|^2 + \rho\, v \|W\|_F^2, \quad v = \mathrm{tr}\, C_{ff} / D

    Args:
        moments: Sum of outer products of (1, f, t), shape (1 + D + K, 1 + D + K), floating.
        num_features: D.
        ridge: rho >= 0.

    Returns:
        Scalar, differentiable; the rounding of a moment of t is its error. O((D + K)^3) time.

    Raises:
        InputError: If the features are constant, or dependent with `ridge` 0.
    """
    count, total = moments[0, 0].detach(), moments[0, 1:]
    covariance = moments[1:, 1:] / count - torch.outer(total, total) / count**2
    inner, cross = covariance[:num_features, :num_features], covariance[:num_features, num_features:]
    variances = inner.diagonal()
    penalty = ridge * variances.mean()
    factor, failed = torch.linalg.cholesky_ex(inner + penalty * torch.eye(num_features).to(inner))
    pivots = factor.detach().diagonal().square()
    if bool(failed) or not bool((pivots > _SINGULAR * variances.detach()).all()):
        raise InputError(
            f"Expected `features` whose {num_features} columns vary independently over the samples, got a singular "
            f"covariance from {int(count)} samples with ridge={ridge:g}; pass `ridge=1e-3`, more samples (labelled "
            "ones for the downstream part) or a narrower head, or look for features that are constant."
        )
    weights = torch.cholesky_solve(cross, factor)
    return covariance.diagonal()[num_features:].sum() - (cross * weights).sum()


# Sums of outer products of (1, features, targets) over all ranks, for every pair of features and targets.
def _all_moments(*pairs: tuple[Tensor, Tensor]) -> list[Tensor]:
    device = pairs[0][0].device
    has_float64 = device_with_float64(device) == device
    sums = []
    with torch.autocast(device.type, enabled=False):
        for features, targets in pairs:
            exact = [part.to(torch.float64 if has_float64 else torch.float32) for part in (features, targets)]
            rows = torch.cat([exact[0].new_ones(len(features), 1), *exact], 1)
            sums.append(rows.mT @ rows)
        total = all_sum_with_grad(torch.cat([part.flatten() for part in sums]))
    parts = total.split([part.numel() for part in sums])
    return [part.view_as(own) for part, own in zip(parts, sums, strict=True)]


def _check_rows(features: Tensor, pretext: Tensor, downstream: Tensor, is_labelled: Tensor | None) -> None:
    check_shape(features, "features", "N D+")
    check_shape(pretext, "pretext", f"{len(features)} K")
    check_shape(downstream, "downstream", f"{len(features)} M")
    check_finite(features, "features")
    check_finite(pretext, "pretext")
    if is_labelled is not None:
        check_shape(is_labelled, "is_labelled", str(len(features)))
        check_dtype(is_labelled, "is_labelled", torch.bool)
