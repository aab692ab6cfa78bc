r"""The reduced flows of gradient descent on two layers with orthonormal weights, in one formula.

Both weights of f(x) = W_2^T W_1 x move along a tangent of the Stiefel manifold, against the gradient G of
Tr(W_2^T W_1 C W_1^T W_2). Then :math:`q = W_2^\top W_1 V`, with C = V diag(lambda) V^T, moves by itself:

.. math:: \dot q = -\big(4 q\Lambda - c\, q\Lambda q^\top q - (4 - c)\, q q^\top q\Lambda\big)

===========  ==  ========================  ==================================================================
flow         c   tangent                   training that follows it
===========  ==  ========================  ==================================================================
grassmann    2   G - W W^T G               a tangent step and a retraction
stiefel      3   G - W sym(W^T G)          the same; a plain step and the polar projection, as in the paper
canonical    4   G - W G^T W               near its base point, torch's orthogonal parametrisation with the
                                           matrix exponential or the Cayley map; Householder follows none
===========  ==  ========================  ==================================================================

References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised models",
2023, eq. 9 (Theorem 2) and, in steps, eq. 12; they have the Grassmann flow.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from lightning_ssl_theory.checks import (
    InputError,
    check_callable,
    check_integer,
    check_positive,
    check_shape,
    check_word,
)
from lightning_ssl_theory.flows.integrate import integrate
from lightning_ssl_theory.flows.problem import checked_start

FlowName = Literal["grassmann", "stiefel", "canonical"]
"""The three flows by name."""

OJA_RATES: dict[FlowName, float] = {"grassmann": 2.0, "stiefel": 3.0, "canonical": 4.0}
"""The number c of each: orthonormal outputs turn by Oja's flow, q' = -c (q L - q L q^T q)."""

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Outputs (*, z, d) and eigenvalues (d,) to the derivative (*, z, d) with respect to t."""


def check_flow(flow: str) -> None:
    """Raise unless a flow is known.

    Args:
        flow: The name to look at.

    Raises:
        InputError: If there is no flow of that name.
    """
    check_word(flow, "flow", FlowName)


def grassmann_velocity(q: Tensor, eigenvalues: Tensor) -> Tensor:
    r"""Derivative of the outputs with respect to t along the Grassmann flow.

    .. math:: \dot q = -2\,(2 q\Lambda - q\Lambda q^\top q - q q^\top q\Lambda)

    Args:
        q: Outputs in the eigenbasis, shape (\*, z, d).
        eigenvalues: lambda, shape (d,).

    Returns:
        Shape (\*, z, d). O(z^2 d) time, whatever the hidden width and the number of samples.

    Example:
        >>> grassmann_velocity(torch.tensor([[0.5, 0.0]]), torch.tensor([-1.0, 1.0]))
        tensor([[1.5000, 0.0000]])
    """
    return _velocity(q, eigenvalues, OJA_RATES["grassmann"])


def stiefel_velocity(q: Tensor, eigenvalues: Tensor) -> Tensor:
    r"""Derivative of the outputs with respect to t along the Stiefel flow.

    .. math:: \dot q = -(4 q\Lambda - 3 q\Lambda q^\top q - q q^\top q\Lambda)

    Args:
        q: Outputs in the eigenbasis, shape (\*, z, d).
        eigenvalues: lambda, shape (d,).

    Returns:
        Shape (\*, z, d). O(z^2 d) time.

    Example:
        >>> stiefel_velocity(torch.tensor([[0.5, 0.0]]), torch.tensor([-1.0, 1.0]))
        tensor([[1.5000, 0.0000]])
    """
    return _velocity(q, eigenvalues, OJA_RATES["stiefel"])


def canonical_velocity(q: Tensor, eigenvalues: Tensor) -> Tensor:
    r"""Derivative of the outputs with respect to t along the canonical flow.

    .. math:: \dot q = -4\,(q\Lambda - q\Lambda q^\top q)

    Args:
        q: Outputs in the eigenbasis, shape (\*, z, d).
        eigenvalues: lambda, shape (d,).

    Returns:
        Shape (\*, z, d). O(z^2 d) time.

    Example:
        >>> canonical_velocity(torch.tensor([[0.5, 0.0]]), torch.tensor([-1.0, 1.0]))
        tensor([[1.5000, 0.0000]])
    """
    return _velocity(q, eigenvalues, OJA_RATES["canonical"])


def grassmann_flow(q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Tensor:
    r"""Outputs along the Grassmann flow.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, z, d), spectral norm at most 1.
        eigenvalues: Of C, shape (d,).
        times: Sums of learning rates, shape (T,), at least 0.

    Returns:
        Shape (\*, T, z, d), float64; see `integrate`.

    Raises:
        InputError: If a shape does not fit, the norm of q0 exceeds 1, a time is negative, or the solver fails.

    Example:
        >>> path = grassmann_flow(torch.tensor([[0.6, 0.6]]), torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 9.0]))
        >>> path.shape, path[-1, 0].round(decimals=6).abs().tolist()
        (torch.Size([2, 1, 2]), [1.0, 0.0])
    """
    return integrate(q0, eigenvalues, times, rate=OJA_RATES["grassmann"])


def stiefel_flow(q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Tensor:
    r"""Outputs along the Stiefel flow.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, z, d), spectral norm at most 1.
        eigenvalues: Of C, shape (d,).
        times: Sums of learning rates, shape (T,), at least 0.

    Returns:
        Shape (\*, T, z, d), float64; see `integrate`.

    Raises:
        InputError: If a shape does not fit, the norm of q0 exceeds 1, a time is negative, or the solver fails.

    Example:
        >>> path = stiefel_flow(torch.tensor([[0.6, 0.6]]), torch.tensor([-1.0, 1.0]), torch.tensor([9.0]))
        >>> path[-1, 0].round(decimals=6).abs()
        tensor([1., 0.], dtype=torch.float64)
    """
    return integrate(q0, eigenvalues, times, rate=OJA_RATES["stiefel"])


def canonical_flow(q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Tensor:
    r"""Outputs along the canonical flow, by adaptive steps.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, z, d), spectral norm at most 1.
        eigenvalues: Of C, shape (d,).
        times: Sums of learning rates, shape (T,), at least 0.

    Returns:
        Shape (\*, T, z, d), float64; see `integrate`.

    Raises:
        InputError: If a shape does not fit, the norm of q0 exceeds 1, a time is negative, or the solver fails.

    Example:
        >>> path = canonical_flow(torch.tensor([[0.6, 0.6]]), torch.tensor([-1.0, 1.0]), torch.tensor([9.0]))
        >>> path[-1, 0].round(decimals=6).abs()
        tensor([1., 0.], dtype=torch.float64)
    """
    return integrate(q0, eigenvalues, times, rate=OJA_RATES["canonical"])


def discrete_flow(
    q0: Tensor, eigenvalues: Tensor, *, lr: float, num_steps: int, velocity: Velocity = grassmann_velocity
) -> Tensor:
    r"""Outputs along a flow in Euler steps.

    .. math:: q_{k+1} = q_k + \eta\, \dot q(q_k)

    A step is as long as a step of gradient descent with learning rate eta, and differs from it and from the flow
    by O(eta^2).

    Args:
        q0: W_2^T W_1 V at the start, shape (\*, z, d), spectral norm at most 1.
        eigenvalues: Of C, shape (d,).
        lr: eta, > 0.
        num_steps: K >= 0.
        velocity: The flow; by default the Grassmann flow.

    Returns:
        Shape (\*, K + 1, z, d), float64, q0 first. O(z^2 d) time a step.

    Raises:
        InputError: If a shape does not fit, the norm of q0 exceeds 1, `lr` is not positive, the number of steps
            is negative, or the steps are too long and the outputs grow without bound.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, eq. 12.

    Example:
        >>> discrete_flow(torch.tensor([[0.5, 0.0]]), torch.tensor([-1.0, 1.0]), lr=0.1, num_steps=1)[:, 0, 0]
        tensor([0.5000, 0.6500], dtype=torch.float64)
    """
    check_positive(lr, "lr")
    check_integer(num_steps, "num_steps", at_least=0, at_most=10**8, advice="pass how many steps to take")
    check_callable(velocity, "velocity")
    q, spectrum = checked_start(q0, eigenvalues)
    path = [q]
    for _ in range(num_steps):
        path.append(path[-1] + lr * velocity(path[-1], spectrum))
    trajectory = torch.stack(path, dim=-3)
    if not bool(trajectory[..., -1, :, :].isfinite().all()):
        raise InputError(
            f"Expected steps short enough for the outputs to stay finite, got lr={lr:g} with eigenvalues up to "
            f"{float(spectrum.abs().max()):g}; lower `lr`."
        )
    return trajectory.to(q0.device)


def _velocity(q: Tensor, eigenvalues: Tensor, rate: float) -> Tensor:
    check_shape(eigenvalues, "eigenvalues", "d+")
    check_shape(q, "q", "* z d")
    if q.shape[-1] != len(eigenvalues):
        raise InputError(
            f"Expected `q` of shape (*, z, {len(eigenvalues)}) for as many `eigenvalues`, got {tuple(q.shape)}; "
            "pass one row an output."
        )
    scaled = q * eigenvalues
    return rate * (scaled @ q.mT) @ q + (4 - rate) * (q @ q.mT) @ scaled - 4 * scaled
