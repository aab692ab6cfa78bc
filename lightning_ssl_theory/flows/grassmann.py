r"""The reduced flow of gradient descent on the Grassmann manifold.

Both weights of f(x) = W_2^T W_1 x move along the projected gradients :math:`-(I - W W^\top) G` of
Tr(W_2^T W_1 C W_1^T W_2). Then :math:`q = W_2^\top W_1 V`, with C = V diag(lambda) V^T, moves by itself.
"""

from torch import Tensor

from lightning_ssl_theory.flows.integrate import integrate


def grassmann_velocity(q: Tensor, eigenvalues: Tensor) -> Tensor:
    r"""Derivative of the outputs with respect to t.

    .. math:: \dot q = -2\,(2 q\Lambda - q\Lambda q^\top q - q q^\top q\Lambda)

    Args:
        q: Outputs in the eigenbasis, shape (\*, z, d).
        eigenvalues: lambda, shape (d,).

    Returns:
        Shape (\*, z, d). O(z^2 d) time, whatever the hidden width and the number of samples.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, eq. 9 (Theorem 2).

    Example:
        >>> import torch
        >>> grassmann_velocity(torch.tensor([[0.5, 0.0]]), torch.tensor([-1.0, 1.0]))
        tensor([[1.5000, -0.0000]])
    """
    scaled = q * eigenvalues
    return -2 * (2 * scaled - (scaled @ q.mT) @ q - (q @ q.mT) @ scaled)


def grassmann_flow(q0: Tensor, eigenvalues: Tensor, times: Tensor) -> Tensor:
    r"""Outputs along the Grassmann flow.

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
        >>> path = grassmann_flow(torch.tensor([[0.6, 0.6]]), torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 9.0]))
        >>> path.shape, path[-1, 0].round(decimals=6).abs().tolist()
        (torch.Size([2, 1, 2]), [1.0, 0.0])
    """
    return integrate(grassmann_velocity, q0, eigenvalues, times)
