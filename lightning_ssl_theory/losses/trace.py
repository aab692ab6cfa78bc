"""The trace losses of the orthogonality-constrained theory."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError, check_flag, check_shape
from lightning_ssl_theory.distributed import RowPlaces, all_gather_rows, all_sum_with_grad, row_places
from lightning_ssl_theory.losses.batch_moments import SMALL_BATCH_ADVICE
from lightning_ssl_theory.losses.pairwise import check_pairs


class TraceLoss(nn.Module):
    r"""Inner product of a sample with its negative, minus that with its positive.

    .. math::
        L = \frac1N \sum_i f(x_i)^\top \big(f(x_i^-) - f(x_i^+)\big) \quad\text{or, non-contrastive,}\quad
        L = -\frac1N \sum_i f(x_i)^\top f(x_i^+)

    For linear f(x) = W x both are Tr(W C W^T) with C = sym(mean (x^- - x^+) x^T), or -sym(mean x^+ x^T). They
    have no lower bound unless the weights are constrained. The mean is over the N samples of all ranks; x_i^-
    is the view in `z1` of sample i+1 mod N, which for the last sample of a rank lies on the next one.

    Args:
        contrastive: Whether there are negatives.

    Attributes:
        distance: "squared": the representations enter as they are, not normalised.
        beta: 0. With `pair_weight`, what a prediction of the gradient by covariance operators asks for.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, eq. 1 and 2.

    Example:
        >>> z1, z2 = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]])
        >>> TraceLoss()(z1, z2).item()  # (1 * (2 - 1) + 2 * (1 - 3)) / 2
        -1.5
        >>> TraceLoss(contrastive=False)(z1, z2).item()  # -(1 * 1 + 2 * 3) / 2
        -3.5
    """

    def __init__(self, contrastive: bool = True) -> None:
        super().__init__()
        check_flag(contrastive, "contrastive")
        self.contrastive = contrastive
        self.distance: Literal["squared"] = "squared"
        self.beta = 0.0

    def forward(self, z1: Tensor, z2: Tensor, negatives: Tensor | None = None) -> Tensor:
        r"""The loss.

        Args:
            z1: Representations f(x) of this rank's samples, shape (N, D), floating.
            z2: Representations f(x^+), the shape of `z1`.
            negatives: Representations f(x^-), the shape of `z1`; by default its rows, moved by one.

        Returns:
            Scalar, a mean over the samples of all ranks; float32 for half-precision inputs.

        Raises:
            InputError: If a shape is wrong, there is but one sample, or negatives come to a loss without.
        """
        parts = self.parts(z1, z2, negatives)
        return parts["alignment"] + parts["regularization"]

    def parts(self, z1: Tensor, z2: Tensor, negatives: Tensor | None = None) -> dict[str, Tensor]:
        r"""The two summands of the loss. O(N D) time.

        Args:
            z1: As in `forward`.
            z2: As in `forward`.
            negatives: As in `forward`.

        Returns:
            Scalars `alignment`, :math:`-\frac1N \sum f^\top f^+`, and `regularization`,
            :math:`\frac1N \sum f^\top f^-`, zero when not contrastive.

        Raises:
            InputError: As in `forward`.
        """
        _check_pair(z1, z2, "z2")
        anchors, positives = _single(z1), _single(z2)
        places = row_places(z1)
        sums = [-(anchors * positives).sum(), anchors.new_zeros(())]
        if negatives is not None:
            if not self.contrastive:
                raise InputError("Expected no `negatives` with contrastive=False, got some; leave them out.")
            _check_pair(z1, negatives, "negatives")
            sums[1] = (anchors * _single(negatives)).sum()
        elif self.contrastive:
            sums[1] = (anchors * _next_rows(anchors, places)).sum()
        alignment, regularization = all_sum_with_grad(torch.stack(sums)) / places.total
        return {"alignment": alignment, "regularization": regularization}

    @property
    def pair_weight(self) -> Callable[[Tensor], Tensor]:
        r"""Weights of the pairs of samples with which covariance operators predict the gradient.

        With identical views the loss is :math:`-\frac{1}{2N} \sum_i \|f_i - f_{i+1}\|^2`, so
        :math:`\xi = \frac N2 (R + R^\top)` with R the cyclic shift, exactly; the distances do not enter. Without
        contrast there is no such attribute: no covariance operator gives that gradient.

        Returns:
            The map from halved squared distances between the mean outputs of a batch's samples, in its order,
            (N, N), to xi, (N, N), symmetric with a zero diagonal.

        Raises:
            AttributeError: If the loss is not contrastive.
        """
        if not self.contrastive:
            raise AttributeError  # nn.Module puts its own sentence
        return _neighbour_weight


def _neighbour_weight(r: Tensor) -> Tensor:
    check_pairs(r)
    shift = torch.eye(len(r), dtype=r.dtype, device=r.device).roll(1, dims=1)
    return len(r) / 2 * (shift + shift.mT)


def _next_rows(rows: Tensor, places: RowPlaces) -> Tensor:
    if places.total < 2:
        raise InputError(
            f"Expected at least 2 samples to take negatives from, got {places.total}; {SMALL_BATCH_ADVICE}."
        )
    return all_gather_rows(rows, places).roll(-1, dims=0)[places.first : places.first + len(rows)]


def _check_pair(z1: Tensor, other: Tensor, name: str) -> None:
    check_shape(z1, "z1", "N D")
    check_shape(other, name, f"{z1.shape[0]} {z1.shape[1]}")


def _single(rows: Tensor) -> Tensor:
    # In half precision the sums would overflow, or lose the difference of the two parts.
    return rows.to(torch.promote_types(rows.dtype, torch.float32))
