"""When one output has turned to the leading eigenvector, the lowest of C."""

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from lightning_ssl_theory.flows.clock import Clock
from lightning_ssl_theory.flows.closed_form import check_one_output, line_of
from lightning_ssl_theory.flows.problem import checked_start


def leading_time(q0: Tensor, eigenvalues: Tensor, *, cosine: float = 0.99) -> Tensor:
    r"""First time at which the Grassmann flow is within an angle of the lowest eigenspace.

    The angle falls monotonically: in the clock's own time,
    :math:`\cos^2 = \|P q_0\|^2 / \sum_k q_{0k}^2 e^{-4\theta(\lambda_k - \lambda_1)}`.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, 1, d), norm at most 1.
        eigenvalues: Of C, shape (d,); those exactly equal to the smallest span its eigenspace.
        cosine: Of the largest angle, in (0, 1).

    Returns:
        Shape (\*), float64: sums of learning rates; 0 where q0 is there already, infinite where it is orthogonal to
        the eigenspace, which the flow then never sees.

    Raises:
        TypeError: If an argument is no tensor.
        ValueError: If `cosine` is out of range, there is more than one output, a shape does not fit, or the norm of
            q0 exceeds 1.

    Example:
        >>> q0 = torch.tensor([[0.6, 0.8]])  # on the sphere theta = t: log(tan(a0) / tan(a)) = 2 t (1 + 1)
        >>> round(leading_time(q0, torch.tensor([-1.0, 1.0]), cosine=0.8).item(), 6)
        0.143841
    """
    if not 0 < cosine < 1:
        raise ValueError(f"Expected `cosine` in (0, 1), got {cosine}; 0.99 is an angle of 8 degrees.")
    start, spectrum = checked_start(q0, eigenvalues)
    check_one_output(start)
    rows = start.flatten(0, -2).numpy()
    found = [_time(row, spectrum.numpy(), cosine) for row in rows]
    return torch.tensor(found, dtype=torch.float64).view(start.shape[:-2]).to(q0.device)


def _time(row: np.ndarray, eigenvalues: np.ndarray, cosine: float) -> float:
    is_lowest = eigenvalues == eigenvalues.min()
    own, others = row[is_lowest], row[~is_lowest]
    if not own.any():
        return np.inf
    # log tan^2 of the angle at theta, minus that of the largest angle: falls with theta, at least at rate 4 gap
    rates = 4 * (eigenvalues[~is_lowest] - eigenvalues.min())
    goal = 2 * np.log(np.linalg.norm(own)) + np.log(1 / cosine**2 - 1)
    weights = 2 * np.log(np.abs(others[others != 0]))
    rates = rates[others != 0]

    def excess(theta: float) -> float:
        return float(np.logaddexp.reduce(weights - rates * theta)) - goal

    if not len(weights) or excess(0.0) <= 0:
        return 0.0
    end = excess(0.0) / rates.min()
    theta = brentq(excess, 0.0, end, xtol=1e-13 * end, rtol=1e-14)
    return float(Clock(line_of(row, eigenvalues), theta).time(np.array([theta]))[0])
