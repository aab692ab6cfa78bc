"""Linear CKA: how alike two representations of the same samples are, whatever their bases and scales."""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_shape
from lightning_ssl_theory.moments import to_float64


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    r"""Linear centred kernel alignment of two representations.

    .. math:: \frac{\|X^T Y\|_F^2}{\|X^T X\|_F \, \|Y^T Y\|_F}

    for features X and Y whose means over the samples are taken off.

    Args:
        first: Features X, shape (N, D), any real dtype.
        second: Features Y of the same samples, shape (N, E).

    Returns:
        A scalar in [0, 1], float64: 1 where Y is a rotation of X times a number, 0 where no feature of X correlates
        with one of Y; of few samples in many dimensions it is close to 1 whatever they are. O(N (D + E)^2) time.

    Raises:
        InputError: If a representation is constant.

    References:
        S. Kornblith, M. Norouzi, H. Lee, G. Hinton, "Similarity of Neural Network Representations Revisited", 2019,
        section 3.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> turned, half = linear_cka(x, 3 * x.flip(1) + 7), linear_cka(x, x[:, :1])  # X^T X = 2 I
        >>> round(float(turned), 4), round(float(half), 4)  # 4 / (2 sqrt(2) 2)
        (1.0, 0.7071)
    """
    check_shape(first, "first", "N+ D+")
    check_shape(second, "second", f"{len(first)} E+")
    parts = []
    for name, features in {"first": first, "second": second}.items():
        check_finite(features, name)
        exact = to_float64(features)
        exact = exact / exact.abs().max().clamp_min(
            torch.finfo(torch.float64).tiny
        )  # no square over- or underflows
        if bool((exact == exact[:1]).all()):
            raise InputError(
                f"Expected `{name}` that varies over the samples, got a constant; pass other features."
            )
        parts.append(exact - exact.mean(0))
    x, y = parts
    return (x.mT @ y).square().sum() / ((x.mT @ x).norm() * (y.mT @ y).norm())
