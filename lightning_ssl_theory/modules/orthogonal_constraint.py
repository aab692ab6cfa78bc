r"""The ways in which OrthogonalSSL constrains its two weights.

===================  ============================================================================
constraint           how
===================  ============================================================================
"grassmann"          tangent step on the Grassmann manifold, QR retraction
"stiefel"            tangent step on the Stiefel manifold, QR retraction
"polar"              plain step, polar projection
"parametrization"    torch's orthogonal parametrisation, plain steps on its parameters
"scaled_loss"        free weights, the loss divided by :math:`\|W_2^\top W_1\|_2^2`
"frobenius"          plain step, Frobenius norms kept within those of orthonormal weights
"none"               free weights
===================  ============================================================================

The first four keep the weights orthonormal. Descent follows the Grassmann flow with the first, the Stiefel flow with
the next two, and near its starting point the canonical flow with the fourth. The fifth has the same least loss. The
last two collapse.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils import parametrizations

from lightning_ssl_theory.checks import check_word
from lightning_ssl_theory.manifolds.constrained_sgd import Constraint
from lightning_ssl_theory.networks.two_layer import TwoLayerNetwork

OrthogonalConstraint = Literal[
    "grassmann", "stiefel", "polar", "parametrization", "scaled_loss", "frobenius", "none"
]
"""One of the names in the table."""

OrthogonalMap = Literal["cayley", "matrix_exp"]
"""From skew-symmetric to orthogonal matrices; torch's third, Householder, follows none of the flows."""

_SMALLEST_NORM = 1e-12


def optimizer_constraint(constraint: OrthogonalConstraint) -> Constraint:
    """What is left for the optimizer to keep.

    Args:
        constraint: One of the seven.

    Returns:
        A constraint of `ConstrainedSGD`; "none" where the parametrisation or the loss sees to it.

    Raises:
        InputError: If there is no constraint of that name.

    Example:
        >>> optimizer_constraint("scaled_loss")
        'none'
    """
    check_word(constraint, "constraint", OrthogonalConstraint)
    if constraint == "parametrization" or constraint == "scaled_loss":
        return "none"
    return constraint


def parametrize_orthogonal(network: TwoLayerNetwork, orthogonal_map: OrthogonalMap) -> None:
    """Let both weights be computed from free matrices (H, H), orthonormal whatever these are.

    The weights stay as they are; a plain step of gradient descent on the matrices is, near the starting point, one of
    the canonical metric. A forward pass costs O(H^3) time.

    Args:
        network: Both layers of it.
        orthogonal_map: "cayley" or "matrix_exp".

    Raises:
        InputError: If the map is none of the two.
    """
    check_word(orthogonal_map, "orthogonal_map", OrthogonalMap)
    for layer in (network.hidden, network.output):
        parametrizations.orthogonal(layer, orthogonal_map=orthogonal_map)


def spectral_scale(product: Tensor) -> Tensor:
    r"""What the scaled loss multiplies the trace loss by.

    .. math:: \|W_2^\top W_1\|_2^{-2}

    Args:
        product: W_2^T W_1, shape (Z, D).

    Returns:
        Scalar, float32 at least, differentiable. O(Z^2 D) time.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, Proposition 3.

    Example:
        >>> spectral_scale(torch.tensor([[0.0, 2.0], [1.0, 0.0]])).item()
        0.25
    """
    precise = product.to(torch.promote_types(product.dtype, torch.float32))
    return torch.linalg.matrix_norm(precise, ord=2).clamp(min=_SMALLEST_NORM) ** -2
