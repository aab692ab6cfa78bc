r"""Oja's flow on frames, in closed form: orthonormal outputs along every flow, and the canonical flow for all outputs.

.. math:: \dot p = -c\,(p M - p M p^\top p), \quad p p^\top = I
    \qquad\Longrightarrow\qquad \mathrm{span}\, p(t) = \mathrm{span}(p_0 e^{-ctM})

Orthonormal outputs q are such a frame, with M = Lambda. The canonical flow moves any outputs as a part of one, the
frame (q, k) of `frame_of` with M = diag(Lambda, 0): there c = 4.
"""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.flows.problem import checked_problem, frame_of, orthonormalized
from lightning_ssl_theory.flows.reduced_flows import OJA_RATES, FlowName, check_flow

_MAX_STEPS = 10_000  # a few seconds
_REST = 1e-15  # of a column: less is rounding
_MAX_EXPONENT = 4.0  # of a step: keeps the condition number of what is made orthonormal below e^4
_TOLERANCE = 1e-6


def canonical_closed_form(q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Tensor:
    r"""Outputs along the canonical flow up to a rotation among them, in closed form for every z.

    .. math::
        \hat q = M^{-1/2} q_0 E, \quad E = e^{-4t\Lambda}, \quad M = I + q_0 (E^2 - I) q_0^\top, \qquad
        \hat q^\top \hat q = q^\top q

    For z = 1 it is the flow itself. What does not depend on the basis of the outputs, distances between
    representations, the loss, the span, is exact for every z; the rotation alone needs `canonical_flow`.
    Long times are taken in steps, at most e^4 in E, each exact, so that no direction is lost to rounding.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, z, d), spectral norm at most 1.
        eigenvalues: Of C, shape (d,).
        times: Shape (T,), at least 0.

    Returns:
        Shape (\*, T, z, d), float64. O(z^2 d) time a step, of which there are at most
        t (max(0, max lambda) - min(0, min lambda)), and none once the outputs rest.

    Raises:
        InputError: If a shape does not fit, the norm of q0 exceeds 1, or a time is negative.

    Example:
        >>> path = canonical_closed_form(torch.eye(2), torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 3.0]))
        >>> [round(value, 6) for value in path[1].flatten().tolist()]
        [1.0, 0.0, 0.0, 1.0]
    """
    problem = checked_problem(q0, eigenvalues, times)
    levels = torch.cat([problem.eigenvalues, problem.eigenvalues.new_zeros(q0.shape[-2])])
    path = _frames(frame_of(problem.q0), levels, problem.times * OJA_RATES["canonical"])
    return path[..., : len(eigenvalues)].to(q0.device)


def oja_flow(q0: Tensor, eigenvalues: Tensor, times: Tensor, *, flow: FlowName = "grassmann") -> Tensor:
    r"""Orthonormal outputs along a flow, up to a rotation among them, in closed form.

    .. math:: \mathrm{span}\, q(t) = \mathrm{span}(q_0 e^{-ct\Lambda}), \qquad q q^\top = I

    with c = 2 (Grassmann), 3 (Stiefel) or 4 (canonical). Outputs stay orthonormal once they are; they always
    are where the hidden width equals the input width.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, z, d), rows orthonormal to 1e-6: the nearest ones that are so exactly
            are taken.
        eigenvalues: Of C, shape (d,).
        times: Shape (T,), at least 0.
        flow: Which flow.

    Returns:
        Shape (\*, T, z, d), float64, orthonormal rows at any time: those nearest to q0 e^{-ctL}, by exact steps.

    Raises:
        InputError: If the rows of q0 are not orthonormal, a shape does not fit, a time is negative, or the flow
            is unknown.

    References: W.-Y. Yan, U. Helmke, J. Moore, "Global analysis of Oja's flow for neural networks", 1994.

    Example:
        >>> path = oja_flow(torch.tensor([[0.6, 0.8]]), torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 0.5]))
        >>> round((path[1, 0, 1] / path[1, 0, 0]).log().item(), 6)  # log(0.8 / 0.6) - 2 t (1 + 1)
        -1.712318
    """
    check_flow(flow)
    problem = checked_problem(q0, eigenvalues, times)
    identity = torch.eye(q0.shape[-2], dtype=torch.float64)
    distance = float(torch.linalg.matrix_norm(problem.q0 @ problem.q0.mT - identity, ord=2).max())
    if distance > _TOLERANCE:
        raise InputError(
            f"Expected `q0` with orthonormal rows, got ||q0 q0^T - I|| = {distance:.3g}; "
            "use grassmann_flow, stiefel_flow or canonical_flow."
        )
    start = orthonormalized(problem.q0)
    return _frames(start, problem.eigenvalues, problem.times * OJA_RATES[flow]).to(q0.device)


# Frames (*, z, m) to their paths (*, T, z, m), at times multiplied by the rate.
def _frames(frame: Tensor, levels: Tensor, moments: Tensor) -> Tensor:
    ordered, places = moments.unique(return_inverse=True)
    path, now = [frame.unsqueeze(-3)[..., :0, :, :]], 0.0
    for moment in ordered.tolist():
        frame, now = _advanced(frame, levels, moment - now), moment
        path.append(frame.unsqueeze(-3))
    return torch.cat(path, dim=-3)[..., places, :, :]


def _advanced(frame: Tensor, levels: Tensor, duration: float) -> Tensor:
    for _ in range(_MAX_STEPS):
        is_alive = frame.flatten(0, -2).any(0)  # the others have decayed below the smallest number
        heights = (levels - levels[is_alive].min()).clamp(min=0)
        spread = float(heights[is_alive].max())
        if duration <= 0 or spread == 0 or int(is_alive.sum()) <= frame.shape[-2]:
            return frame
        step = min(duration, _MAX_EXPONENT / spread)
        moved = frame * (-step * heights).exp()
        left, values, _ = torch.linalg.svd(moved, full_matrices=False)
        # from the left, so that columns of zeros stay so
        before, frame = frame, orthonormalized((left / values.unsqueeze(-2)) @ left.mT @ moved)
        duration -= step
        if bool((_lengths(frame - before) <= _REST * _lengths(frame)).all()):
            return frame
    raise InputError(
        f"Expected `times` that a flow reaches in {_MAX_STEPS} steps, got a longer way between `eigenvalues` that "
        "nearly agree; ask for shorter `times`."
    )


# Of every column: a tiny one that grows, beside others that rest, is about to move them.
def _lengths(frame: Tensor) -> Tensor:
    return torch.linalg.vector_norm(frame, dim=-2)
