r"""The Grassmann flow with one output: in closed form up to one quadrature, its time to turn, its end (Theorem 3)."""

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_number
from lightning_ssl_theory.flows.clock import Clock, Line
from lightning_ssl_theory.flows.problem import ON_SPHERE, checked_problem, checked_start


def closed_form_flow(q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Tensor:
    r"""Outputs along the Grassmann flow for one output.

    .. math::
        n = q_0 e^{-2\theta\Lambda}, \quad N = \|n\|^2, \quad
        \|q\|^2 = \frac{2N}{N + \sqrt{N^2 + 4(1 - \|q_0\|^2)}}, \quad q = \|q\| \frac{n}{\|n\|}, \quad
        t = \int_0^\theta \frac{ds}{2 - \|q(s)\|^2}

    In logarithms throughout, so that neither large times nor tiny outputs overflow. Outputs whose norm is 1 up to
    rounding stay on the sphere.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, 1, d), norm at most 1.
        eigenvalues: Of C, shape (d,).
        times: Sums of learning rates, shape (T,), at least 0, in any order.

    Returns:
        Shape (\*, T, 1, d), float64, on the device of q0. O((P + T) d) time for each q0, with P evaluations of the
        integrand, some hundreds; P grows at most with the logarithm of the largest time.

    Raises:
        InputError: If there is more than one output, a shape does not fit, the norm of q0 exceeds 1, or a time is
            negative.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, eq. 10, which this solves.

    Example:
        >>> path = closed_form_flow(torch.tensor([[0.6, 0.6]]), torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 9.0]))
        >>> [[round(value, 6) for value in q.tolist()] for q in path[:, 0]]
        [[0.6, 0.6], [1.0, 0.0]]
    """
    problem = checked_problem(q0, eigenvalues, times)
    _check_one_output(problem.q0)
    spectrum, moments = problem.eigenvalues.numpy(), problem.times.numpy()
    rows = problem.q0.flatten(0, -2).numpy()
    paths = np.stack([_path(row, spectrum, moments) for row in rows])
    shape = (*problem.q0.shape[:-2], len(moments), 1, len(spectrum))
    return torch.from_numpy(paths).view(shape).to(q0.device)


def limit_point(q0: Tensor, eigenvalues: Tensor) -> Tensor:
    r"""Where the flow with one output ends, whichever of the flows it follows.

    With m the lowest eigenvalue that q0 has a component on, and P_m q0 that component:

    - m > 0: zero, unless q0 lies on the unit sphere, which the flow never leaves: then the direction of P_m q0;
    - m < 0: the direction of P_m q0, norm 1;
    - m = 0: the direction of P_0 q0, and for the Grassmann flow the squared norm
      :math:`2N_0/(N_0 + \sqrt{N_0^2 + 4(1 - \|q_0\|^2)})`, :math:`N_0 = \|P_0 q_0\|^2`.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, 1, d), norm at most 1.
        eigenvalues: Of C, shape (d,); those that are exactly equal count as one.

    Returns:
        Shape (\*, 1, d), float64, on the device of q0.

    Raises:
        InputError: If there is more than one output, a shape does not fit, or the norm of q0 exceeds 1.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, Theorem 3, which leaves out m = 0, the sphere, and q0 orthogonal to the lowest eigenspace.

    Example:
        >>> limit_point(torch.tensor([[0.6, 0.6]]), torch.tensor([-1.0, 1.0])).tolist()
        [[1.0, 0.0]]
        >>> limit_point(torch.tensor([[0.6, 0.6]]), torch.tensor([1.0, 2.0])).tolist()
        [[0.0, 0.0]]
    """
    start, spectrum = checked_start(q0, eigenvalues)
    _check_one_output(start)
    rows = start.flatten(0, -2)
    lowest = spectrum.expand_as(rows).where(rows != 0, torch.inf).min(-1, keepdim=True).values
    part = rows.where(spectrum == lowest, 0)
    mass, gap = part.square().sum(-1, keepdim=True), 1 - rows.square().sum(-1, keepdim=True)
    gap = gap.where(gap > ON_SPHERE, 0)
    # m = 0 is the general case: the other two are its limits of large and of vanishing mass
    square = 2 * mass / (mass + (mass.square() + 4 * gap).sqrt())
    square = square.where(lowest <= 0, gap.eq(0).double()).where(lowest >= 0, 1.0)
    limit = part * (square / mass).sqrt().where(mass > 0, 0)
    return limit.view(start.shape).to(q0.device)


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
        InputError: If `cosine` is out of range, there is more than one output, a shape does not fit, or the norm of
            q0 exceeds 1.

    Example:
        >>> q0 = torch.tensor([[0.6, 0.8]])  # on the sphere theta = t: log(tan(a0) / tan(a)) = 2 t (1 + 1)
        >>> round(leading_time(q0, torch.tensor([-1.0, 1.0]), cosine=0.8).item(), 6)
        0.143841
    """
    check_number(cosine, "cosine", "(0, 1)", advice="0.99 is an angle of 8 degrees")
    start, spectrum = checked_start(q0, eigenvalues)
    _check_one_output(start)
    rows = start.flatten(0, -2).numpy()
    found = [_time(row, spectrum.numpy(), cosine) for row in rows]
    return torch.tensor(found, dtype=torch.float64).view(start.shape[:-2]).to(q0.device)


def _check_one_output(q0: Tensor) -> None:
    if q0.shape[-2] != 1:
        raise InputError(
            f"Expected `q0` with one output, shape (*, 1, d), got {tuple(q0.shape)}; "
            "use grassmann_flow, or canonical_closed_form for the canonical flow."
        )


# One output that is not zero, in logarithms.
def _line_of(row: np.ndarray, eigenvalues: np.ndarray) -> Line:
    gap = 1 - float(row @ row)
    with np.errstate(divide="ignore"):
        log_gap = float(np.log(4 * gap)) if gap > ON_SPHERE else -np.inf
        lowest = eigenvalues[row != 0].min()
        heights = (eigenvalues - lowest).clip(min=0)  # of columns that are zero it does not matter
        return Line(2 * np.log(np.abs(row)), heights, float(lowest), log_gap)


def _path(row: np.ndarray, eigenvalues: np.ndarray, times: np.ndarray) -> np.ndarray:
    end = 2 * times.max(initial=0.0)
    if not row.any() or end == 0:
        return np.tile(row, (len(times), 1))
    line = _line_of(row, eigenvalues)
    theta = Clock(line, end).theta(times)
    log_mass = line.log_mass(theta)
    log_square = line.log_weights - 4 * theta[:, None] * line.heights - log_mass[:, None]
    log_square += line.log_square(theta, log_mass)[:, None]
    return np.sign(row) * np.exp(log_square / 2)


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
    return float(Clock(_line_of(row, eigenvalues), theta).time(np.array([theta]))[0])
