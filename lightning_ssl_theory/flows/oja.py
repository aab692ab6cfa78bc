"""Where the outputs are orthonormal, all three flows are Oja's, at different speeds."""

from typing import Literal

import torch
from torch import Tensor

from lightning_ssl_theory.flows.canonical import canonical_closed_form
from lightning_ssl_theory.flows.problem import checked_start, checked_times

FlowName = Literal["grassmann", "stiefel", "canonical"]
"""The three flows by name."""

OJA_RATES: dict[FlowName, float] = {"grassmann": 2.0, "stiefel": 3.0, "canonical": 4.0}
"""Rate c at which each flow turns orthonormal outputs: q' = -c (q L - q L q^T q)."""

_TOLERANCE = 1e-6


def oja_flow(q0: Tensor, eigenvalues: Tensor, times: Tensor, *, flow: FlowName = "grassmann") -> Tensor:
    r"""Orthonormal outputs along a flow, up to a rotation among them, in closed form.

    .. math:: \mathrm{span}\, q(t) = \mathrm{span}(q_0 e^{-ct\Lambda}), \qquad q q^\top = I

    with c = 2 (Grassmann), 3 (Stiefel) or 4 (canonical). Outputs stay orthonormal once they are; they always
    are where the hidden width equals the input width.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, z, d), orthonormal rows.
        eigenvalues: Of C, shape (d,).
        times: Shape (T,), at least 0.
        flow: Which flow.

    Returns:
        Shape (\*, T, z, d), float64, orthonormal rows: those nearest to q0 e^{-ctL}, by exact steps.

    Raises:
        TypeError: If an argument is no tensor.
        ValueError: If the rows of q0 are not orthonormal, a shape does not fit, a time is negative, or the flow
            is unknown.

    References: W.-Y. Yan, U. Helmke, J. Moore, "Global analysis of Oja's flow for neural networks", 1994.

    Example:
        >>> path = oja_flow(torch.tensor([[0.6, 0.8]]), torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 0.5]))
        >>> round((path[1, 0, 1] / path[1, 0, 0]).log().item(), 6)  # log(0.8 / 0.6) - 2 t (1 + 1)
        -1.712318
    """
    if flow not in OJA_RATES:
        raise ValueError(f"Expected `flow` to be one of {', '.join(OJA_RATES)}, got {flow!r}; choose one.")
    start, spectrum = checked_start(q0, eigenvalues)
    identity = torch.eye(start.shape[-2], dtype=start.dtype)
    distance = float(torch.linalg.matrix_norm(start @ start.mT - identity, ord=2).max())
    if distance > _TOLERANCE:
        raise ValueError(
            f"Expected `q0` with orthonormal rows, got ||q0 q0^T - I|| = {distance:.3g}; "
            "use grassmann_flow, stiefel_flow or canonical_flow."
        )
    seconds = checked_times(times) * (OJA_RATES[flow] / 4)
    return canonical_closed_form(start, spectrum, seconds).to(q0.device)
