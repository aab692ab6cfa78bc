r"""The matrix C of a trace loss, Tr(W C W^T) for linear representations W x, and its eigenbasis."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_shape

_MAX_ASYMMETRY = 1e-6


class Eigenbasis(NamedTuple):
    """C = V diag(lambda) V^T."""

    eigenvalues: Tensor
    """Ascending, shape (d,), float64; the first ones drive learning."""
    eigenvectors: Tensor
    """V, one eigenvector a column, shape (d, d), float64."""


def trace_matrix(x: Tensor, positives: Tensor, negatives: Tensor | None = None) -> Tensor:
    r"""The symmetric matrix C of a trace loss on data.

    .. math::
        C = \mathrm{sym}\Big(\frac1N \sum_i (x_i^- - x_i^+)\, x_i^\top\Big) \quad\text{or, without negatives,}\quad
        C = -\mathrm{sym}\Big(\frac1N \sum_i x_i^+ x_i^\top\Big)

    Args:
        x: Samples, shape (N, \*), each flattened to d numbers.
        positives: x^+, the shape of `x`.
        negatives: x^-, the shape of `x`; `None` for the loss without contrast.

    Returns:
        Shape (d, d), float64, a mean over N. O(N d^2) time.

    Raises:
        InputError: If the shapes differ, a value is not finite, or all data are zero.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, eq. 7.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> trace_matrix(x, x, x.roll(-1, dims=0)).tolist()
        [[-0.5, 0.5], [0.5, -0.5]]
    """
    check_shape(x, "x", "N *")
    given = {"x": x, "positives": positives} | ({} if negatives is None else {"negatives": negatives})
    for name, data in given.items():
        check_shape(data, name, "N *")
        if data.shape != x.shape or x.numel() == 0:
            raise InputError(
                f"Expected `{name}` of the shape {tuple(x.shape)} of `x`, not empty, got {tuple(data.shape)}; "
                "pass one row a sample."
            )
        check_finite(data, name)
    samples, *others = (data.detach().flatten(1).double() for data in given.values())
    difference = others[1] - others[0] if len(others) > 1 else -others[0]
    if not bool(samples.any()) or not any(bool(data.any()) for data in others):
        raise InputError(
            "Expected data that are not all zero, got zeros only; C would be zero and nothing would be learned: "
            "check how the data were read."
        )
    product = difference.mT @ samples / len(samples)
    return (product + product.mT) / 2


def eigenbasis(matrix: Tensor) -> Eigenbasis:
    r"""Eigenvalues, ascending, and eigenvectors of a symmetric matrix.

    Outputs W_2^T W_1 become q = W_2^T W_1 V.

    Args:
        matrix: C, shape (d, d), symmetric.

    Returns:
        Eigenbasis in float64. O(d^3) time.

    Raises:
        InputError: If it is not square, not finite or not symmetric.

    Example:
        >>> eigenbasis(torch.tensor([[0.0, 2.0], [2.0, 0.0]])).eigenvalues
        tensor([-2.,  2.], dtype=torch.float64)
    """
    check_shape(matrix, "matrix", "d d")
    check_finite(matrix, "matrix")
    exact = matrix.detach().double()
    asymmetry, size = float((exact - exact.mT).abs().max()), float(exact.abs().max())
    if asymmetry > _MAX_ASYMMETRY * size:
        raise InputError(
            f"Expected a symmetric `matrix`, got max |C - C^T| = {asymmetry:.3g} beside max |C| = {size:.3g}; "
            "pass (C + C^T) / 2."
        )
    return Eigenbasis(*torch.linalg.eigh((exact + exact.mT) / 2))
