r"""A trajectory of any reduced flow, by an explicit Runge-Kutta method of order 8 with adaptive steps.

What is integrated is not q but the frame p = (q, k) of `frame_of`. With :math:`S = q \Lambda q^\top` and c the Oja
rate of the flow, every flow is

.. math:: \dot q = -c\,(q\Lambda - S q) - (4 - c)\, k k^\top q \Lambda, \qquad \dot k = 4 S k,

which keeps the rows of p orthonormal. So :math:`I - q q^\top = k k^\top` stays zero where it is zero and tiny where it
is tiny, although it may grow as :math:`e^{8 \lambda t}`, as the rounding of q would.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.flows.problem import checked_problem, frame_of, orthonormalized

_TOLERANCE = 1e-12  # of a step: relative, and relative to the norms of q and k
_MAX_PIECES = 100  # half a minute
_PIECE = 64.0  # in units of the fastest rate; after each piece the rows are made orthonormal anew
_LONGEST_STEP = 2.0  # in the same units: keeps e^2 to 1e-8, so that tiny columns grow as they should
_SHORT = 1e-30  # beside its length at the start: a column that no longer moves the others
_REST = 1e-14  # beside the fastest rate


class _Flow(NamedTuple):
    levels: Tensor  # eigenvalues of the columns of q, then zeros for those of k
    num_features: int  # columns of q
    rate: float

    @property
    def speed(self) -> float:
        """Largest rate at which a deviation may decay."""
        return 4 * float(self.levels.max().clamp(min=0) - self.levels.min().clamp(max=0))

    def velocity(self, frame: Tensor) -> Tensor:
        q, k = frame.tensor_split([self.num_features], dim=-1)
        scaled = q * self.levels[: self.num_features]
        product = scaled @ q.mT
        moved = self.rate * (product @ q - scaled) - (4 - self.rate) * k @ (k.mT @ scaled)
        # by the formulas alone D = I - p p^T, which is rounding, would follow D' = c (S D + D S) and may grow
        part = product @ (frame @ frame.mT)
        balance = self.rate * (product - (part + part.mT) / 2)
        return torch.cat([moved, 4 * product @ k], dim=-1) + balance @ frame

    def is_at_rest(self, frame: Tensor) -> bool:
        # column by column: a tiny one that grows, beside others that rest, is about to move them
        speeds = torch.linalg.vector_norm(self.velocity(frame), dim=-2)
        return bool((speeds <= _REST * self.speed * torch.linalg.vector_norm(frame, dim=-2)).all())


def integrate(q0: Tensor, eigenvalues: Tensor, times: Tensor, *, rate: float) -> Tensor:
    r"""Solution of a reduced flow at given times.

    All initial conditions advance together. The tolerance of a step, 1e-12 relative to each number and to the norm
    of its q, is divided by the root of their number, so that each is as exact as alone. A column of q that is zero
    stays zero; a tiny one that grows does so at its own rate.

    Args:
        q0: Shape (\*, z, d), spectral norm at most 1.
        eigenvalues: Shape (d,), in any order.
        times: Shape (T,), at least 0, in any order.
        rate: c: 2 for Grassmann, 3 for Stiefel, 4 for canonical.

    Returns:
        Shape (\*, T, z, d), float64, on the device of q0. The number of steps is two to three times the largest time
        times the largest eigenvalue, and ends where all outputs have come to rest.

    Raises:
        InputError: As `checked_problem`, or if the solver fails or would need too many steps.
    """
    problem = checked_problem(q0, eigenvalues, times)
    ahead, places = np.unique(problem.times.numpy(), return_inverse=True)
    frame, (num_outputs, width) = frame_of(problem.q0), problem.q0.shape[-2:]
    levels = torch.cat([problem.eigenvalues, problem.eigenvalues.new_zeros(num_outputs)])
    start, now, path = frame, 0.0, [frame[None, ..., :width][:0]]
    for _ in range(_MAX_PIECES):
        if not len(ahead):
            return torch.cat(path)[torch.from_numpy(places)].movedim(0, -3).to(q0.device)
        is_moving = _is_moving(frame, start, levels)
        flow = _Flow(levels[is_moving], int(is_moving[:width].sum()), rate)
        now, states, num_reached = _piece(flow, frame[..., is_moving], now, ahead)
        whole = frame.new_zeros(len(states), *frame.shape)
        whole[..., is_moving] = states
        path.append(whole[:num_reached, ..., :width])
        frame, ahead = whole[-1], ahead[num_reached:]
    raise InputError(
        f"Expected `times` that a flow reaches in {_MAX_PIECES * _PIECE:g} units of its fastest rate, got a longer way "
        "between `eigenvalues` that nearly agree; ask for shorter `times`, or use oja_flow or canonical_closed_form."
    )


# A column that has become short decays for ever where its eigenvalue lies above those of all the others.
def _is_moving(frame: Tensor, start: Tensor, levels: Tensor) -> Tensor:
    lengths, first = (torch.linalg.vector_norm(x, dim=-2).view(-1, len(levels)) for x in (frame, start))
    is_short = (lengths <= _SHORT * first).all(0)
    return ~(is_short & (levels > levels[~is_short].max())) & first.any(0)


# When a piece ends; its states at the times that it reaches, and last where it ends; how many times it reaches.
def _piece(flow: _Flow, frame: Tensor, now: float, ahead: np.ndarray) -> tuple[float, Tensor, int]:
    if ahead[-1] == now or flow.is_at_rest(frame):
        return ahead[-1], frame.expand(len(ahead), *frame.shape), len(ahead)
    end = min(ahead[-1], now + _PIECE / flow.speed)
    reached = ahead[ahead <= end]
    tolerance = max(_TOLERANCE / frame.shape[:-2].numel() ** 0.5, 1e-13)
    parts = frame.tensor_split([flow.num_features], dim=-1)
    norms = torch.cat([torch.linalg.matrix_norm(x, keepdim=True).expand_as(x) for x in parts], dim=-1)
    found = solve_ivp(
        lambda _, flat: flow.velocity(torch.from_numpy(flat).view_as(frame)).flatten().numpy(),
        (now, end),
        frame.flatten().numpy(),
        method="DOP853",
        t_eval=np.union1d(reached, [end]),
        max_step=_LONGEST_STEP / flow.speed,
        rtol=tolerance,
        atol=tolerance * norms.clamp(min=1e-290).flatten().numpy(),
    )
    if not found.success:
        raise InputError(
            f"Expected a flow that the solver can follow, got {found.message!r}; ask for shorter `times`, or use "
            "closed_form_flow for one output of the Grassmann flow, canonical_closed_form, or oja_flow."
        )
    states = torch.from_numpy(found.y.T.copy()).view(-1, *frame.shape)
    return end, orthonormalized(states), len(reached)
