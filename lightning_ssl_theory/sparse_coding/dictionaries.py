r"""Dictionaries: matrices M in R^{d1 x d} with orthonormal columns, the atoms.

.. math:: M^\top M = I, \qquad d_1 \ge d
"""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_instance, check_integer, check_shape
from lightning_ssl_theory.moments import to_float64

_TOLERANCE = 1e-4  # float32 keeps it, half precision does not


def random_dictionary(
    num_features: int, num_atoms: int, *, generator: torch.Generator | None = None
) -> Tensor:
    r"""A uniformly random dictionary.

    It is incoherent: with high probability :math:`\max |M_{ij}|` is of order
    :math:`\sqrt{\log(d_1 d) / d_1}`, so no input coordinate stands for an atom.

    Args:
        num_features: d1 >= d.
        num_atoms: d >= 1.
        generator: of the draws; None is torch's.

    Returns:
        M, shape (d1, d), float32, M^T M = I to rounding. O(d1 d^2) time.

    Raises:
        InputError: If d1 < d, or d < 1.

    Example:
        >>> atoms = random_dictionary(8, 3, generator=torch.Generator().manual_seed(0))
        >>> bool((atoms.mT @ atoms - torch.eye(3)).abs().max() < 1e-6)
        True
    """
    check_integer(num_features, "num_features")
    check_integer(num_atoms, "num_atoms")
    check_instance(generator, "generator", torch.Generator, or_none=True)
    if num_features < num_atoms:
        raise InputError(
            f"Expected `num_features` >= `num_atoms` = {num_atoms}, got {num_features}; "
            "orthonormal atoms need at least as many coordinates."
        )
    normal = torch.randn(num_features, num_atoms, generator=generator, dtype=torch.float64)
    factors = torch.linalg.qr(normal)
    # a triangular factor with a positive diagonal is unique, and makes the law uniform
    return (factors.Q * factors.R.diagonal().sign()).float()


def check_dictionary(dictionary: Tensor) -> None:
    """Raise unless the columns of a matrix are orthonormal, to 1e-4. Waits for the device.

    Args:
        dictionary: M, shape (d1, d).

    Raises:
        InputError: If it is no matrix, has no columns, more columns than rows, values that are not finite, or
            columns that are not orthonormal.

    Example:
        >>> check_dictionary(torch.ones(2, 1))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lightning_ssl_theory.checks.InputError: Expected `dictionary` with orthonormal columns, got max ... = 1; ...
    """
    check_shape(dictionary, "dictionary", "d1 d")
    check_finite(dictionary, "dictionary")
    num_features, num_atoms = dictionary.shape
    if num_atoms == 0:
        raise InputError("Expected `dictionary` with at least one column, got none; pass atoms as columns.")
    if num_features < num_atoms:
        raise InputError(
            f"Expected `dictionary` of shape (d1, d) with d1 >= d, got {tuple(dictionary.shape)}; "
            "pass atoms as columns."
        )
    exact = to_float64(dictionary)
    gram = exact.mT @ exact
    error = float((gram - torch.eye(num_atoms, dtype=gram.dtype, device=gram.device)).abs().max())
    if error > _TOLERANCE:
        raise InputError(
            f"Expected `dictionary` with orthonormal columns, got max |M^T M - I| = {error:.2g}; "
            "pass torch.linalg.qr(dictionary).Q."
        )
