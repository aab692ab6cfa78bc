"""Matrices with orthonormal columns: tangents, retractions, and gradient descent that stays on them."""

from lightning_ssl_theory.manifolds.constrained_sgd import ConstrainedSGD, check_constraint
from lightning_ssl_theory.manifolds.orthonormal_columns import (
    canonical_tangent,
    grassmann_tangent,
    orthogonality_drift,
    polar_retraction,
    qr_retraction,
    stiefel_tangent,
)

__all__ = [
    "ConstrainedSGD",
    "canonical_tangent",
    "check_constraint",
    "grassmann_tangent",
    "orthogonality_drift",
    "polar_retraction",
    "qr_retraction",
    "stiefel_tangent",
]
