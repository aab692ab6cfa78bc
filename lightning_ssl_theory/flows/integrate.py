"""A trajectory of any flow, by an explicit Runge-Kutta method of order 8 with adaptive steps."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from lightning_ssl_theory.flows.problem import checked_problem

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Outputs (*, z, d) and eigenvalues (d,) to the derivative (*, z, d) with respect to t."""

_TOLERANCE = 1e-12  # of a step: relative, and relative to the norm of q0


def integrate(velocity: Velocity, q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Tensor:
    r"""Solution of q' = velocity(q, eigenvalues), q(0) = q0, at given times.

    All initial conditions advance together. The tolerance of a step, 1e-12 relative to each output and to the norm
    of its q0, is divided by the root of their number, so that each is as exact as alone.

    Args:
        velocity: The flow.
        q0: Shape (\*, z, d), spectral norm at most 1.
        eigenvalues: Shape (d,), in any order.
        times: Shape (T,), at least 0, in any order.

    Returns:
        Shape (\*, T, z, d), float64, on the device of q0. The number of steps grows with the largest time times
        the largest eigenvalue.

    Raises:
        TypeError: If an argument is no tensor.
        ValueError: As `checked_problem`.
    """
    problem = checked_problem(q0, eigenvalues, times)
    shape, (ordered, places) = problem.q0.shape, np.unique(problem.times.numpy(), return_inverse=True)

    def derivative(_: float, flat: np.ndarray) -> np.ndarray:
        return velocity(torch.from_numpy(flat).view(shape), problem.eigenvalues).flatten().numpy()

    start = problem.q0.flatten().numpy()
    if not len(ordered) or ordered[-1] == 0:
        path = np.broadcast_to(start[:, None], (len(start), len(ordered)))
    else:
        tolerance = max(_TOLERANCE / shape[:-2].numel() ** 0.5, 1e-13)
        norms = torch.linalg.vector_norm(problem.q0, dim=(-2, -1), keepdim=True).clamp(min=1e-300)
        path = solve_ivp(
            derivative,
            (0.0, ordered[-1]),
            start,
            method="DOP853",
            t_eval=ordered,
            rtol=tolerance,
            atol=(tolerance * norms).expand(shape).flatten().numpy(),
        ).y
    trajectory = torch.from_numpy(path[:, places].T.copy()).view(len(times), *shape)
    return trajectory.movedim(0, -3).to(q0.device)
