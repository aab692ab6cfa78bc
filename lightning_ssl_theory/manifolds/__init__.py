"""Matrices with orthonormal columns: tangents, retractions, and gradient descent that stays on them."""

from lightning_ssl_theory.manifolds.constrained_sgd import ConstrainedSGD, check_constraint
from lightning_ssl_theory.manifolds.keep_orthonormal import keep_orthonormal
from lightning_ssl_theory.manifolds.orthonormal_columns import (
    canonical_tangent,
    grassmann_tangent,
    orthogonality_drift,
    polar_retraction,
    qr_retraction,
    stiefel_tangent,
)
from lightning_ssl_theory.manifolds.orthonormal_linear import OrthonormalLinear

__all__ = [
    "ConstrainedSGD",
    "OrthonormalLinear",
    "canonical_tangent",
    "check_constraint",
    "grassmann_tangent",
    "keep_orthonormal",
    "orthogonality_drift",
    "polar_retraction",
    "qr_retraction",
    "stiefel_tangent",
]
