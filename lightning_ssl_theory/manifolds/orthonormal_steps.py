r"""One step of a matrix with orthonormal columns, whatever made the step.

==========  ===========================================================================
constraint  where a step :math:`\Delta` leads from W
==========  ===========================================================================
"grassmann" QR retraction of :math:`W + \Delta - W W^\top \Delta`
"stiefel"   QR retraction of :math:`W + \Delta - W\,\mathrm{sym}(W^\top \Delta)`
"polar"     polar projection of :math:`W + \Delta`
==========  ===========================================================================

A matrix with fewer rows than columns (the weight of an `nn.Linear` that narrows) has orthonormal rows: the same of its
transpose.
"""

from typing import Literal

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.manifolds.orthonormal_columns import (
    grassmann_tangent,
    polar_retraction,
    qr_retraction,
    stiefel_tangent,
)

OrthonormalConstraint = Literal["grassmann", "stiefel", "polar"]
"""One of the names in the table."""


def tangent_part(weight: Tensor, matrix: Tensor, constraint: OrthonormalConstraint) -> Tensor:
    """The part of a gradient or step that the constraint leaves; "polar" leaves all of it.

    Args:
        weight: W, shape (H, D), orthonormal columns, or rows where H < D.
        matrix: the shape of `weight`.
        constraint: one of the three.

    Returns:
        Shape (H, D). Linear in `matrix`. O(H D min(H, D)) time.

    Example:
        >>> tangent_part(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]]), "stiefel").tolist()
        [[0.0, 4.0]]
    """
    if constraint == "polar":
        return matrix
    if weight.shape[0] < weight.shape[1]:
        return tangent_part(weight.mT, matrix.mT, constraint).mT
    tangent = grassmann_tangent if constraint == "grassmann" else stiefel_tangent
    return tangent(weight, matrix)


def orthonormal_step(weight: Tensor, step: Tensor, constraint: OrthonormalConstraint) -> Tensor:
    """Where a step leads, see the table.

    Args:
        weight: W, shape (H, D), orthonormal columns, or rows where H < D.
        step: the shape of `weight`; any, tangent or not.
        constraint: one of the three.

    Returns:
        Shape (H, D), orthonormal as W is. O(H D min(H, D)) time.

    Example:
        >>> moved = orthonormal_step(torch.tensor([[1.0], [0.0]]), torch.tensor([[5.0], [0.75]]), "stiefel")
        >>> [round(value, 4) for value in moved.flatten().tolist()]
        [0.8, 0.6]
    """
    if weight.shape[0] < weight.shape[1]:
        return orthonormal_step(weight.mT, step.mT, constraint).mT
    retraction = polar_retraction if constraint == "polar" else qr_retraction
    return retraction(weight + tangent_part(weight, step, constraint))


def check_constrained(parameter: Tensor) -> None:
    """Raise unless a parameter can be constrained.

    Args:
        parameter: to be a matrix of dtype float32 or float64.

    Raises:
        InputError: it is no matrix, as where its rows are sharded, or of another dtype.
    """
    if parameter.ndim != 2:
        raise InputError(
            f"Expected matrices as constrained parameters, got shape {tuple(parameter.shape)}; "
            'put other parameters in a group with constraint="none".'
        )
    if parameter.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"Expected constrained parameters of dtype float32 or float64, got {parameter.dtype}; "
            'train with precision="32-true", "16-mixed" or "bf16-mixed".'
        )
