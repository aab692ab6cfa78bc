"""What a flow says of points, those it was made from and new ones."""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_shape


def flow_outputs(trajectory: Tensor, eigenvectors: Tensor, points: Tensor) -> Tensor:
    r"""Representations of points along a trajectory.

    .. math:: f_t(x) = q_t V^\top x

    Args:
        trajectory: q_t, shape (\*, z, d); leading dimensions for times and initial conditions.
        eigenvectors: V, shape (d, d), one a column.
        points: Shape (N, \*), each flattened to d numbers; any points.

    Returns:
        Shape (\*, N, z), float64. O(N d^2) time for N points, and O(N z d) for each q.

    Raises:
        InputError: If the widths differ.

    Example:
        >>> flow_outputs(torch.tensor([[[2.0, 0.0]]]), torch.eye(2), torch.tensor([[3.0, 5.0]])).tolist()
        [[[6.0]]]
    """
    check_shape(eigenvectors, "eigenvectors", "d d")
    check_shape(points, "points", "N d *")
    check_shape(trajectory, "trajectory", "* z d")
    for name, value in {"trajectory": trajectory, "eigenvectors": eigenvectors, "points": points}.items():
        check_finite(value, name)
    flat, width = points.flatten(1), len(eigenvectors)
    check_shape(flat, "points", f"N {width}")
    if trajectory.ndim < 2 or trajectory.shape[-1] != width:
        raise InputError(
            f"Expected `trajectory` of shape (*, z, {width}), got {tuple(trajectory.shape)}; "
            "pass what a flow returned for these eigenvectors."
        )
    coordinates = flat.to(eigenvectors.device, torch.float64) @ eigenvectors.double()
    return coordinates @ trajectory.to(eigenvectors.device, torch.float64).mT


def flow_loss(trajectory: Tensor, eigenvalues: Tensor) -> Tensor:
    r"""The trace loss along a trajectory.

    .. math:: L = \mathrm{Tr}(q \Lambda q^\top)

    Args:
        trajectory: q_t, shape (\*, z, d).
        eigenvalues: Of C, shape (d,).

    Returns:
        Shape (\*). O(z d) time for each q.

    Raises:
        InputError: If a shape does not fit, or a value is not finite.

    Example:
        >>> flow_loss(torch.tensor([[0.5, 0.75]]), torch.tensor([-1.0, 1.0])).item()
        0.3125
    """
    check_shape(eigenvalues, "eigenvalues", "d")
    check_finite(eigenvalues, "eigenvalues")
    check_shape(trajectory, "trajectory", "* z d")
    check_finite(trajectory, "trajectory")
    if trajectory.shape[-1] != len(eigenvalues):
        raise InputError(
            f"Expected `trajectory` of shape (*, z, {len(eigenvalues)}) for as many `eigenvalues`, "
            f"got {tuple(trajectory.shape)}; pass what a flow returned for them."
        )
    return (trajectory.square() * eigenvalues).sum((-2, -1))
