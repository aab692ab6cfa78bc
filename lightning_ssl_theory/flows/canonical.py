r"""The reduced flow of gradient descent on the Stiefel manifold with the canonical metric, and its closed form.

Both weights move along :math:`-(G - W G^\top W)`. Torch's orthogonal parametrisation with the matrix exponential
or the Cayley map follows this flow near its base point; its default, Householder, follows none.
"""

import math

import torch
from torch import Tensor

from lightning_ssl_theory.flows.integrate import integrate
from lightning_ssl_theory.flows.problem import checked_problem

_MAX_EXPONENT = 8.0  # of one closed-form step: keeps the condition number of its Gram matrix below e^8


def canonical_velocity(q: Tensor, eigenvalues: Tensor) -> Tensor:
    r"""Derivative of the outputs with respect to t.

    .. math:: \dot q = -4\,(q\Lambda - q\Lambda q^\top q)

    Args:
        q: Outputs in the eigenbasis, shape (\*, z, d).
        eigenvalues: lambda, shape (d,).

    Returns:
        Shape (\*, z, d). O(z^2 d) time.

    Example:
        >>> import torch
        >>> canonical_velocity(torch.tensor([[0.5, 0.0]]), torch.tensor([-1.0, 1.0]))
        tensor([[1.5000, -0.0000]])
    """
    scaled = q * eigenvalues
    return -4 * (scaled - (scaled @ q.mT) @ q)


def canonical_flow(q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Tensor:
    r"""Outputs along the canonical flow, by adaptive steps.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, z, d), spectral norm at most 1.
        eigenvalues: Of C, shape (d,).
        times: Sums of learning rates, shape (T,), at least 0.

    Returns:
        Shape (\*, T, z, d), float64; see `integrate`.

    Raises:
        TypeError: If an argument is no tensor.
        ValueError: If a shape does not fit, the norm of q0 exceeds 1, or a time is negative.

    Example:
        >>> import torch
        >>> path = canonical_flow(torch.tensor([[0.6, 0.6]]), torch.tensor([-1.0, 1.0]), torch.tensor([9.0]))
        >>> path[-1, 0].round(decimals=6).abs()
        tensor([1., 0.], dtype=torch.float64)
    """
    return integrate(canonical_velocity, q0, eigenvalues, times)


def canonical_closed_form(q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Tensor:
    r"""Outputs along the canonical flow up to a rotation among them, in closed form for every z.

    .. math::
        \hat q = M^{-1/2} q_0 E, \quad E = e^{-4t\Lambda}, \quad M = I + q_0 (E^2 - I) q_0^\top, \qquad
        \hat q^\top \hat q = q^\top q

    For z = 1 it is the flow itself. What does not depend on the basis of the outputs, distances between
    representations, the loss, the span, is exact for every z; the rotation alone needs `canonical_flow`.
    Long times are taken in steps, at most e^8 in E^2, each exact, so that no direction is lost to rounding.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, z, d), spectral norm at most 1.
        eigenvalues: Of C, shape (d,).
        times: Shape (T,), at least 0.

    Returns:
        Shape (\*, T, z, d), float64. O(z^2 d) time a step, of which there are t (max lambda - min(0, min lambda)).

    Raises:
        TypeError: If an argument is no tensor.
        ValueError: If a shape does not fit, the norm of q0 exceeds 1, or a time is negative.

    Example:
        >>> import torch
        >>> path = canonical_closed_form(torch.eye(2), torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 3.0]))
        >>> [round(value, 6) for value in path[1].flatten().tolist()]
        [1.0, 0.0, 0.0, 1.0]
    """
    problem = checked_problem(q0, eigenvalues, times)
    order = problem.times.argsort()
    path, now, q = [], 0.0, problem.q0
    for moment in problem.times[order].tolist():
        q, now = _advance(q, problem.eigenvalues, moment - now), moment
        path.append(q)
    stacked = torch.stack(path, dim=-3) if path else q.unsqueeze(-3)[..., :0, :, :]
    return stacked[..., order.argsort(), :, :].to(q0.device)


def _advance(q: Tensor, eigenvalues: Tensor, duration: float) -> Tensor:
    lowest = eigenvalues.min().clamp(max=0)  # the exponentials are taken relative to it: none exceeds 1
    spread = 8 * duration * float(eigenvalues.max().clamp(min=0) - lowest)
    num_steps = max(1, math.ceil(spread / _MAX_EXPONENT))
    step = duration / num_steps
    decay, shrinkage = (-4 * step * (eigenvalues - lowest)).exp(), (8 * step * lowest).exp()
    identity = torch.eye(q.shape[-2], dtype=q.dtype)
    for _ in range(num_steps):
        moved = q * decay
        gram = shrinkage * (identity - q @ q.mT) + moved @ moved.mT
        values, vectors = torch.linalg.eigh(gram)
        q = (vectors / values.sqrt().unsqueeze(-2)) @ vectors.mT @ moved
    return q
