r"""The reduced flow of gradient descent on the Stiefel manifold with the Euclidean metric.

Both weights move along :math:`-(G - W\,\mathrm{sym}(W^\top G))`. A plain step followed by the polar projection,
which is how the paper describes its training, follows this flow too and not the Grassmann flow.
"""

from torch import Tensor

from lightning_ssl_theory.flows.integrate import integrate


def stiefel_velocity(q: Tensor, eigenvalues: Tensor) -> Tensor:
    r"""Derivative of the outputs with respect to t.

    .. math:: \dot q = -(4 q\Lambda - 3 q\Lambda q^\top q - q q^\top q\Lambda)

    Args:
        q: Outputs in the eigenbasis, shape (\*, z, d).
        eigenvalues: lambda, shape (d,).

    Returns:
        Shape (\*, z, d). O(z^2 d) time.

    Example:
        >>> import torch
        >>> stiefel_velocity(torch.tensor([[0.5, 0.0]]), torch.tensor([-1.0, 1.0]))
        tensor([[1.5000, -0.0000]])
    """
    scaled = q * eigenvalues
    return -(4 * scaled - 3 * (scaled @ q.mT) @ q - (q @ q.mT) @ scaled)


def stiefel_flow(q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Tensor:
    r"""Outputs along the Stiefel flow.

    Args:
        q0: W_2^T W_1 V at t = 0, shape (\*, z, d), spectral norm at most 1.
        eigenvalues: Of C, shape (d,).
        times: Sums of learning rates, shape (T,), at least 0.

    Returns:
        Shape (\*, T, z, d), float64; see `integrate`.

    Raises:
        TypeError: If an argument is no tensor.
        ValueError: If a shape does not fit, the norm of q0 exceeds 1, or a time is negative.

    Example:
        >>> import torch
        >>> path = stiefel_flow(torch.tensor([[0.6, 0.6]]), torch.tensor([-1.0, 1.0]), torch.tensor([9.0]))
        >>> path[-1, 0].round(decimals=6).abs()
        tensor([1., 0.], dtype=torch.float64)
    """
    return integrate(stiefel_velocity, q0, eigenvalues, times)
