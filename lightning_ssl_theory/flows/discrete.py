"""The reduced flow in explicit Euler steps, as the paper compares it with training."""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_positive
from lightning_ssl_theory.flows.grassmann import grassmann_velocity
from lightning_ssl_theory.flows.integrate import Velocity
from lightning_ssl_theory.flows.problem import checked_start


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
        TypeError: If an argument is of the wrong type.
        ValueError: If a shape does not fit, the norm of q0 exceeds 1, `lr` is not positive, the number of steps
            is negative, or the steps are too long and the outputs grow without bound.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, eq. 12.

    Example:
        >>> discrete_flow(torch.tensor([[0.5, 0.0]]), torch.tensor([-1.0, 1.0]), lr=0.1, num_steps=1)[:, 0, 0]
        tensor([0.5000, 0.6500], dtype=torch.float64)
    """
    check_positive(lr, "lr")
    if num_steps < 0:
        raise ValueError(f"Expected `num_steps` >= 0, got {num_steps}; pass how many steps to take.")
    q, spectrum = checked_start(q0, eigenvalues)
    path = [q]
    for _ in range(num_steps):
        path.append(path[-1] + lr * velocity(path[-1], spectrum))
    trajectory = torch.stack(path, dim=-3)
    if not bool(trajectory[..., -1, :, :].isfinite().all()):
        raise ValueError(
            f"Expected steps short enough for the outputs to stay finite, got lr={lr:g} with eigenvalues up to "
            f"{float(spectrum.abs().max()):g}; lower `lr`."
        )
    return trajectory.to(q0.device)
