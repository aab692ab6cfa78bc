r"""The Frobenius norm from pairs of different probes and pairs of different random weight vectors.

With independent probes c != c' and random weight vectors phi_k, phi_l, k != l, all with E[v v^T] = I,

.. math:: \|OP\|_F^2 = E\big[(\phi_k^T OP_c\, \phi_l)(\phi_k^T OP_{c'}\, \phi_l)\big],

so that small matrices C_c = Phi^T OP_c Phi suffice, and nothing is squared that is noisy in itself.
"""

import math

import torch
from torch import Tensor

from lightning_ssl_theory.operators.standard_errors import jackknife_error


def frobenius_estimate(sketches: Tensor, *, is_exact: bool) -> tuple[Tensor, Tensor]:
    """The norm and its standard error.

    Args:
        sketches: C_c of every probe, (m, r, r), symmetric.
        is_exact: Whether the operator is the sum over probes (all unit vectors), or their mean (random ones).

    Returns:
        The norm, whose square is unbiased where it is not negative, and its error over probes and weight vectors
        (see `standard_errors`). Both are NaN where there are no pairs, the error also for two probes.

    Example:
        >>> operator = torch.eye(3).repeat(3, 1, 1) + 1  # phi^T OP phi for three probes that agree
        >>> [float(value) for value in frobenius_estimate(operator, is_exact=False)]
        [1.0, 0.0]
    """
    if is_exact:
        sketches = sketches.sum(0, keepdim=True)
        products = sketches[0].square()
        errors = [_sketch_error(products)]
    else:
        num_probes = len(sketches)
        if num_probes < 2:
            nothing = sketches.new_full((), math.nan)
            return nothing, nothing
        total, squares = sketches.sum(0), sketches.square().sum(0)
        products = (total.square() - squares) / (num_probes * (num_probes - 1))
        rest = (total - sketches).square() - (squares - sketches.square())
        left_out = _off_diagonal_mean(rest / ((num_probes - 1) * (num_probes - 2) or math.nan))
        errors = [_sketch_error(products), jackknife_error(left_out)]
    square = _off_diagonal_mean(products)
    norm, error = square.clamp(min=0).sqrt(), torch.stack(errors).norm()
    tiny = torch.finfo(error.dtype).tiny
    return norm, error / torch.maximum(2 * norm, error.sqrt()).clamp(min=tiny)


def _off_diagonal_mean(values: Tensor) -> Tensor:
    size = values.shape[-1]
    diagonal = values.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (values.sum((-2, -1)) - diagonal) / (size * (size - 1))


def _sketch_error(products: Tensor) -> Tensor:
    size = len(products)
    rows = products.sum(1) - products.diagonal()
    left_out = (rows.sum() - 2 * rows) / ((size - 1) * (size - 2))
    return jackknife_error(left_out)
