r"""Second moments of jointly Gaussian (x, z, y), and what they make of pretext learning in closed form.

x is the input, z the pretext target, y the downstream target, all of mean zero; a linear processor f = F x keeps what
both targets are predicted from. The two criteria for F:

- C1, Cov[f, z | y] = F S_{xz|y} = 0 with :math:`S_{xz|y} = S_{xz} - S_{xy} S_{yy}^{-1} S_{yz}`;
- C2, a linear reader of f predicts y as well as one of x.

References: J. Teng, W. Huang, H. He, "Can pretext-based self-supervised learning be boosted by downstream data? A
theoretical analysis", AISTATS 2022.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import (
    InputError,
    check_finite,
    check_instance,
    check_integer,
    check_number,
    check_shape,
)
from lightning_ssl_theory.moments import to_float64

_ROUNDING = 1e-10  # relative size of an eigenvalue of a covariance that counts as zero


class PretextMoments(NamedTuple):
    """The blocks of the covariance of (x, z, y), in float64."""

    xx: Tensor
    """Of the input, (D, D), invertible."""
    xz: Tensor
    """Of input and pretext target, (D, K)."""
    xy: Tensor
    """Of input and downstream target, (D, M)."""
    zz: Tensor
    """Of the pretext target, (K, K)."""
    zy: Tensor
    """Of the two targets, (K, M)."""
    yy: Tensor
    """Of the downstream target, (M, M), invertible."""

    @property
    def covariance(self) -> Tensor:
        """The whole covariance of (x, z, y), (D + K + M, D + K + M)."""
        rows = [
            (self.xx, self.xz, self.xy),
            (self.xz.mT, self.zz, self.zy),
            (self.xy.mT, self.zy.mT, self.yy),
        ]
        return torch.cat([torch.cat(row, 1) for row in rows])


def pretext_moments(covariance: Tensor, num_features: int, num_pretext: int) -> PretextMoments:
    """Blocks of a covariance of (x, z, y).

    Args:
        covariance: Of the D + K + M numbers in this order, positive semi-definite, x and y not degenerate.
        num_features: D.
        num_pretext: K; the rest are the M >= 1 numbers of y.

    Returns:
        PretextMoments in float64. O((D + K + M)^3) time.

    Raises:
        InputError: If it is no covariance, has no y, or its x or y is degenerate.

    Example:
        >>> pretext_moments(torch.eye(4), 2, 1).xx.shape
        torch.Size([2, 2])
    """
    check_shape(covariance, "covariance", "D+ D+")
    check_finite(covariance, "covariance")
    check_integer(num_features, "num_features")
    check_integer(num_pretext, "num_pretext")
    width = len(covariance)
    if num_features + num_pretext >= width:
        raise InputError(
            f"Expected `covariance` of more than `num_features` + `num_pretext` = {num_features + num_pretext} "
            f"numbers, got {width}; the rest are those of y."
        )
    exact = to_float64(covariance)
    lowest, size = float(torch.linalg.eigvalsh(exact).min()), float(exact.abs().max())
    if (
        not torch.allclose(exact, exact.mT, rtol=0, atol=_ROUNDING * size)
        or lowest < -_ROUNDING * width * size
    ):
        raise InputError(
            f"Expected a symmetric positive semi-definite `covariance`, got a least eigenvalue of {lowest:.3g}; "
            "make it as A @ A.mT."
        )
    split = (num_features, num_pretext, width - num_features - num_pretext)
    (xx, xz, xy), (_, zz, zy), (_, _, yy) = (rows.split(split, 1) for rows in exact.split(split))
    for name, block in {"x": xx, "y": yy}.items():
        spectrum = torch.linalg.eigvalsh(block)
        if spectrum[0] <= _ROUNDING * spectrum[-1]:
            raise InputError(
                f"Expected a `covariance` in which {name} varies in every direction, got a least eigenvalue of "
                f"{float(spectrum[0]):.3g} of its block; leave dependent numbers out."
            )
    return PretextMoments(xx, xz, xy, zz, zy, yy)


def conditional_moment(moments: PretextMoments) -> Tensor:
    r"""Covariance of input and pretext target given the downstream target.

    .. math:: S_{xz|y} = S_{xz} - S_{xy} S_{yy}^{-1} S_{yz}

    Args:
        moments: Of (x, z, y).

    Returns:
        Shape (D, K); a processor F has criterion C1's covariance F S_{xz|y}.

    Example:
        >>> covariance = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
        >>> conditional_moment(pretext_moments(covariance, 1, 1)).item()
        0.0
    """
    check_instance(moments, "moments", PretextMoments)
    return moments.xz - moments.xy @ torch.linalg.solve(moments.yy, moments.zy.mT)


def processed_error(processor: Tensor, moments: PretextMoments) -> Tensor:
    r"""Error of the best linear reader of y from F x.

    .. math:: E\|y - W^* f\|^2 = \mathrm{tr}\, S_{yy} - \mathrm{tr}\big(S_{yx} F^\top (F S_{xx} F^\top)^+ F S_{xy}\big)

    Args:
        processor: F, shape (E, D); rows may depend on one another.
        moments: Of (x, z, y).

    Returns:
        Scalar, float64.

    Raises:
        InputError: If the shape does not fit or a value is not finite.

    Example:
        >>> covariance = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
        >>> processed_error(torch.ones(1, 1), pretext_moments(covariance, 1, 1)).item()
        0.5
    """
    check_instance(moments, "moments", PretextMoments)
    check_shape(processor, "processor", f"E+ {len(moments.xx)}")
    check_finite(processor, "processor")
    exact = to_float64(processor)
    # the rows span the same whatever their lengths, which must not decide what counts as zero
    lengths = torch.linalg.vector_norm(exact, dim=1, keepdim=True)
    rows = exact / lengths.where(lengths > 0, 1)
    inner, cross = rows @ moments.xx @ rows.mT, rows @ moments.xy
    inverse = torch.linalg.pinv(inner, rtol=_ROUNDING, hermitian=True)
    return moments.yy.trace() - (cross.mT @ inverse @ cross).trace()


def excess_risk_gap(processor: Tensor, moments: PretextMoments) -> Tensor:
    r"""Criterion C2's gap: how much worse y is predicted from F x than from x.

    .. math:: \mathrm{tr}(S_{yx} S_{xx}^{-1} S_{xy}) - \mathrm{tr}\big(S_{yx} F^\top (F S_{xx} F^\top)^+ F S_{xy}\big)

    Args:
        processor: F, shape (E, D).
        moments: Of (x, z, y).

    Returns:
        Scalar >= 0 up to rounding, float64.

    Raises:
        InputError: As `processed_error`.

    Example:
        >>> covariance = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
        >>> excess_risk_gap(torch.zeros(1, 1), pretext_moments(covariance, 1, 1)).item()
        0.5
    """
    check_instance(moments, "moments", PretextMoments)
    return processed_error(processor, moments) - processed_error(torch.eye(len(moments.xx)), moments)


def feasibility_gap(moments: PretextMoments) -> Tensor:
    r"""How far the two criteria are from being met at once by a linear processor; they can be where it is 0.

    .. math:: \|S_{yy}^{-1/2} S_{yx} S_{xx}^{-1} S_{xz|y} S_{zz}^{-1/2}\|_F

    Args:
        moments: Of (x, z, y).

    Returns:
        Scalar >= 0, float64, which no invertible linear map of x, y or z changes.

    Example:
        >>> covariance = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
        >>> feasibility_gap(pretext_moments(covariance, 1, 1)).item()
        0.0
    """
    check_instance(moments, "moments", PretextMoments)
    reader = torch.linalg.solve(moments.xx, moments.xy).mT  # (M, D)
    both = _inverse_root(moments.yy) @ reader @ conditional_moment(moments) @ _inverse_root(moments.zz)
    return torch.linalg.matrix_norm(both)


def boosted_minimiser(moments: PretextMoments, num_outputs: int, lamb: float) -> Tensor:
    r"""The processor with the least boosted loss, of all with E outputs.

    .. math:: F = [v_1, …, v_E]^\top S_{xx}^{-1/2}

    with the leading eigenvectors v of :math:`S_{xx}^{-1/2} (S_{xy} S_{yx} - \lambda S_{xz} S_{zx}) S_{xx}^{-1/2}`; any
    A F with an invertible A is as good. It meets both criteria where they can be met (`feasibility_gap` is 0),
    :math:`S_{xz|y} S_{zy} = 0`, lambda is below `largest_boost_weight` and M <= E <= D - rank S_{xz|y}.

    Args:
        moments: Of (x, z, y).
        num_outputs: E <= D.
        lamb: :math:`\lambda \ge 0`.

    Returns:
        Shape (E, D), rows orthonormal in the metric S_xx, the leading one first. O(D^3) time.

    Raises:
        InputError: If E exceeds D, or lambda is negative.

    Example:
        >>> covariance = torch.eye(4)
        >>> covariance[0, 3] = covariance[3, 0] = covariance[1, 2] = covariance[2, 1] = 0.5  # y of x_1, z of x_2
        >>> boosted_minimiser(pretext_moments(covariance, 2, 1), 1, 0.5).abs().tolist()
        [[1.0, 0.0]]
    """
    check_instance(moments, "moments", PretextMoments)
    check_integer(num_outputs, "num_outputs", at_most=len(moments.xx), advice="x has no more directions")
    check_number(lamb, "lamb", "[0, inf)", advice="0 leaves the pretext out")
    root = _inverse_root(moments.xx)
    inner = root @ (moments.xy @ moments.xy.mT - lamb * moments.xz @ moments.xz.mT) @ root
    eigenvectors = torch.linalg.eigh((inner + inner.mT) / 2).eigenvectors.flip(1)
    return eigenvectors[:, :num_outputs].mT @ root


def largest_boost_weight(moments: PretextMoments) -> float:
    r"""Where lambda must stay below for the boosted loss to keep all that tells y.

    .. math:: 1 / \|S_{yy}^{-1} S_{yz}\|_2^2

    Args:
        moments: Of (x, z, y).

    Returns:
        The bound; infinite where z tells nothing of y.

    Example:
        >>> covariance = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> largest_boost_weight(pretext_moments(covariance, 1, 1))
        4.0
    """
    check_instance(moments, "moments", PretextMoments)
    norm = float(torch.linalg.matrix_norm(torch.linalg.solve(moments.yy, moments.zy.mT), ord=2))
    return norm**-2 if norm else math.inf


# Of a positive semi-definite matrix; what counts as zero stays zero.
def _inverse_root(matrix: Tensor) -> Tensor:
    eigenvalues, eigenvectors = torch.linalg.eigh(matrix)
    is_positive = eigenvalues > _ROUNDING * eigenvalues[-1].clamp(min=0)
    roots = eigenvalues.where(is_positive, 1).rsqrt() * is_positive
    return eigenvectors * roots @ eigenvectors.mT
