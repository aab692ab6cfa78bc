"""Oracles of the flows: single numbers in loops, scipy on the scalar equations, and descent on the weights."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from lightning_ssl_theory.manifolds import (
    canonical_tangent,
    grassmann_tangent,
    polar_retraction,
    qr_retraction,
    stiefel_tangent,
)

FLOWS = ["grassmann", "stiefel", "canonical"]
# (a, b, c) of q' = -(a qL - b qL q^T q - c q q^T qL)
COEFFICIENTS = {"grassmann": (4.0, 2.0, 2.0), "stiefel": (4.0, 3.0, 1.0), "canonical": (4.0, 4.0, 0.0)}
TANGENTS = {"grassmann": grassmann_tangent, "stiefel": stiefel_tangent, "canonical": canonical_tangent}


def loop_velocity(q: list[list[float]], lam: list[float], flow: str) -> list[list[float]]:
    """Sums over single numbers."""
    a, b, c = COEFFICIENTS[flow]
    z, d = len(q), len(lam)
    found = [[0.0] * d for _ in range(z)]
    for i in range(z):
        for k in range(d):
            left = sum(q[i][m] * lam[m] * q[j][m] * q[j][k] for j in range(z) for m in range(d))
            right = sum(q[i][m] * q[j][m] * q[j][k] * lam[k] for j in range(z) for m in range(d))
            found[i][k] = -(a * q[i][k] * lam[k] - b * left - c * right)
    return found


def scipy_path(q0: Tensor, lam: Tensor, times: Tensor, flow: str) -> Tensor:
    """DOP853 at a tight tolerance, on plain arrays: (T, z, d)."""
    (a, b, c), eigenvalues, shape = COEFFICIENTS[flow], lam.numpy(), tuple(q0.shape)

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        q = flat.reshape(shape)
        scaled = q * eigenvalues
        return -(a * scaled - b * scaled @ q.T @ q - c * q @ q.T @ scaled).ravel()

    tight = {"rtol": 1e-12, "atol": 1e-13 * float(q0.norm()), "method": "DOP853"}
    start, moments = q0.numpy().ravel(), times.numpy()
    found = solve_ivp(slope, (0.0, moments.max()), start, t_eval=moments, **tight)
    return torch.from_numpy(found.y.T.copy()).view(len(moments), *shape)


def orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A random matrix (rows, columns) with orthonormal columns, float64."""
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64))[0]


def descend(
    hidden: Tensor, output: Tensor, matrix: Tensor, step: Callable[[Tensor, Tensor], Tensor], num_steps: int
) -> Tensor:
    """W_2^T W_1 after steps `step(weight, gradient)` on Tr(W_2^T W_1 C W_1^T W_2)."""
    for _ in range(num_steps):
        product = output.mT @ hidden
        gradients = 2 * output @ product @ matrix, 2 * hidden @ matrix @ product.mT
        hidden, output = step(hidden, gradients[0]), step(output, gradients[1])
    return output.mT @ hidden


def tangent_step(flow: str, lr: float, retraction: str = "qr") -> Callable[[Tensor, Tensor], Tensor]:
    """A step along a flow's tangent and back to the manifold."""
    retract = {"qr": qr_retraction, "polar": polar_retraction}[retraction]
    return lambda weight, gradient: retract(weight - lr * TANGENTS[flow](weight, gradient))
