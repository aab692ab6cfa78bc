r"""Where the flows rest, and which of the places are stable.

For eigenvalues that are distinct and not zero, the outputs rest where :math:`q^\top q` projects onto eigenvectors
chosen from all d, at most z of them (from q^T q' = 0: :math:`2P - P^2` commutes with Lambda, then P does, then
:math:`p(1 - p)\lambda = 0`). The rows of q there may be rotated. All three flows share these points.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_integer, check_sequence, check_shape
from lightning_ssl_theory.flows.reduced_flows import OJA_RATES, FlowName, check_flow


def fixed_points(num_features: int, num_outputs: int) -> Iterator[tuple[int, ...]]:
    r"""Every set of at most z of the d eigenvectors.

    Args:
        num_features: d.
        num_outputs: z.

    Returns:
        Iterator over sets of indices, smaller sets first; the empty one is q = 0. There are
        :math:`\sum_{k \le z} \binom dk`.

    Raises:
        InputError: If an argument is no number, or if a number is not positive.

    Example:
        >>> list(fixed_points(3, 2))
        [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    """
    check_integer(num_features, "num_features")
    check_integer(num_outputs, "num_outputs")
    return (chosen for size in range(num_outputs + 1) for chosen in combinations(range(num_features), size))


def fixed_point_rates(
    eigenvalues: Tensor, chosen: Sequence[int], num_outputs: int, *, flow: FlowName = "grassmann"
) -> Tensor:
    r"""Rates at which small deviations from a fixed point grow: the eigenvalues of the flow's Jacobian there.

    With S the chosen indices, k of them, and c = 2 (Grassmann), 3 (Stiefel), 4 (canonical):

    ====================================================  =============================================
    deviation                                             rate
    ====================================================  =============================================
    a chosen direction s turns to another one, b           :math:`-c(\lambda_b - \lambda_s)`
    one of the z - k free outputs takes up b               :math:`-4\lambda_b`
    chosen outputs shrink, a and s in S, a <= s            :math:`4(\lambda_a + \lambda_s)`
    outputs are rotated among each other                   0, k(k - 1)/2 + k(z - k) times
    ====================================================  =============================================

    Args:
        eigenvalues: lambda, shape (d,), distinct and not zero.
        chosen: S, different indices in [0, d), at most z.
        num_outputs: z.
        flow: Which flow.

    Returns:
        Shape (z d,), float64, descending; the point is stable when none is positive.

    Raises:
        InputError: If an index is out of range or repeated, there are more than z, or the flow is unknown.

    Example:
        >>> fixed_point_rates(torch.tensor([-1.0, 3.0]), (0,), 1).tolist()
        [-8.0, -8.0]
        >>> fixed_point_rates(torch.tensor([-1.0, 3.0]), (), 1).tolist()
        [4.0, -12.0]
    """
    check_shape(eigenvalues, "eigenvalues", "d+")
    check_finite(eigenvalues, "eigenvalues")
    check_integer(num_outputs, "num_outputs")
    spectrum = eigenvalues.detach().double()
    _check_chosen(chosen, len(spectrum), num_outputs)
    check_flow(flow)
    is_chosen = torch.zeros(len(spectrum), dtype=torch.bool)
    is_chosen[list(chosen)] = True
    inside, outside, size = spectrum[is_chosen], spectrum[~is_chosen], len(chosen)
    first, second = torch.triu_indices(size, size)
    rates = [
        (-OJA_RATES[flow] * (outside[:, None] - inside)).flatten(),
        (-4 * outside).repeat(num_outputs - size),
        4 * (inside[first] + inside[second]),
        spectrum.new_zeros(size * (size - 1) // 2 + size * (num_outputs - size)),
    ]
    return torch.cat(rates).sort(descending=True).values


def stable_point(eigenvalues: Tensor, num_outputs: int) -> tuple[int, ...]:
    r"""The one stable fixed point: the lowest eigenvectors, as far as their eigenvalues are negative.

    It minimises the loss too: the sum of the min(z, #negative) lowest eigenvalues.

    Args:
        eigenvalues: lambda, shape (d,), distinct and not zero.
        num_outputs: z.

    Returns:
        Indices, the lowest eigenvalue first; empty when none is negative: the outputs then vanish.

    Raises:
        InputError: If a shape does not fit or `num_outputs` is not positive.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, Proposition 3.

    Example:
        >>> stable_point(torch.tensor([2.0, -1.0, -3.0]), 2)
        (2, 1)
    """
    check_shape(eigenvalues, "eigenvalues", "d+")
    check_finite(eigenvalues, "eigenvalues")
    check_integer(num_outputs, "num_outputs")
    order = eigenvalues.argsort()[:num_outputs].tolist()
    return tuple(index for index in order if eigenvalues[index] < 0)


def _check_chosen(chosen: Sequence[int], num_features: int, num_outputs: int) -> None:
    check_sequence(chosen, "chosen", at_least=0)
    for index in chosen:
        check_integer(index, "chosen", at_least=-num_features)
    is_known = all(0 <= index < num_features for index in chosen)
    if not is_known or len(set(chosen)) < len(chosen) or len(chosen) > num_outputs:
        raise InputError(
            f"Expected `chosen` to hold at most {num_outputs} different indices below {num_features}, "
            f"got {tuple(chosen)}; see fixed_points."
        )
