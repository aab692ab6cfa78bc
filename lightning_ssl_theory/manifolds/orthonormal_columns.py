r"""Matrices with orthonormal columns: tangent projections and retractions of the Stiefel and Grassmann manifolds.

The Stiefel manifold is the set of W (H, D), H >= D, with :math:`W^\top W = I`; the Grassmann manifold is that of
the subspaces which such columns span. Every function is pure and takes leading batch dimensions. A training step
is a tangent step followed by a retraction, or a plain step followed by `polar_retraction`, which follows the same
gradient flow as a `stiefel_tangent` step.

References: A. Edelman, T. Arias, S. Smith, "The geometry of algorithms with orthogonality constraints", 1998;
P.-A. Absil, R. Mahony, R. Sepulchre, "Optimization algorithms on matrix manifolds", 2008, sec. 4.1.1.
"""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_shape

_MAX_CONDITION = 1e5


def stiefel_tangent(weight: Tensor, gradient: Tensor) -> Tensor:
    r"""Orthogonal projection of a matrix onto the tangent space at W.

    .. math:: \xi = G - W\, \mathrm{sym}(W^\top G), \qquad W^\top \xi + \xi^\top W = 0

    Args:
        weight: W, shape (\*, H, D), orthonormal columns.
        gradient: G, the shape of `weight`.

    Returns:
        The tangent matrix, shape (\*, H, D). O(H D^2) time.

    Raises:
        InputError: If `weight` is not tall or the shapes differ.

    Example:
        >>> weight = torch.tensor([[1.0], [0.0]])
        >>> stiefel_tangent(weight, torch.tensor([[3.0], [4.0]])).tolist()
        [[0.0], [4.0]]
    """
    _check_pair(weight, gradient)
    product = weight.mT @ gradient
    return gradient - weight @ (product + product.mT) / 2


def grassmann_tangent(weight: Tensor, gradient: Tensor) -> Tensor:
    r"""Part of a matrix that is orthogonal to W's columns: the tangent space of the Grassmann manifold at span W.

    .. math:: \xi = (I - W W^\top)\, G, \qquad W^\top \xi = 0

    It leaves out the motions that rotate the columns within their span, and is zero for square W.

    Args:
        weight: W, shape (\*, H, D), orthonormal columns.
        gradient: G, the shape of `weight`.

    Returns:
        The tangent matrix, shape (\*, H, D). O(H D^2) time.

    Raises:
        InputError: If `weight` is not tall or the shapes differ.

    Example:
        >>> weight = torch.tensor([[1.0], [0.0]])
        >>> grassmann_tangent(weight, torch.tensor([[3.0], [4.0]])).tolist()
        [[0.0], [4.0]]
    """
    _check_pair(weight, gradient)
    return gradient - weight @ (weight.mT @ gradient)


def canonical_tangent(weight: Tensor, gradient: Tensor) -> Tensor:
    r"""Gradient of a function on the Stiefel manifold in its canonical metric.

    .. math:: \xi = G - W\, G^\top W, \qquad W^\top \xi + \xi^\top W = 0

    Motions within the span of the columns count double beside `stiefel_tangent`. Not a projection.

    Args:
        weight: W, shape (\*, H, D), orthonormal columns.
        gradient: G, the shape of `weight`.

    Returns:
        The tangent matrix, shape (\*, H, D). O(H D^2) time.

    Raises:
        InputError: If `weight` is not tall or the shapes differ.

    Example:
        >>> canonical_tangent(torch.eye(2), torch.tensor([[0.0, 2.0], [0.0, 0.0]])).tolist()
        [[0.0, 2.0], [-2.0, 0.0]]
    """
    _check_pair(weight, gradient)
    return gradient - weight @ (gradient.mT @ weight)


def qr_retraction(matrix: Tensor) -> Tensor:
    r"""Orthonormal factor Q of the QR decomposition whose R has a positive diagonal.

    The sign rule makes Q unique and continuous in the matrix, so that :math:`W + \epsilon\xi` goes to
    :math:`W + \epsilon\xi + O(\epsilon^2)` for tangent :math:`\xi`. Use it after a tangent step only: after a
    plain step the path depends on the basis of the columns and follows none of the gradient flows.

    Args:
        matrix: Shape (\*, H, D), H >= D, full column rank.

    Returns:
        Shape (\*, H, D) with orthonormal columns. O(H D^2) time.

    Raises:
        InputError: If the matrix is not tall.

    Example:
        >>> qr_retraction(torch.tensor([[-3.0], [4.0]]))
        tensor([[-0.6000],
                [ 0.8000]])
    """
    _check_tall(matrix, "matrix")
    orthonormal, triangular = torch.linalg.qr(matrix)
    is_negative = triangular.diagonal(dim1=-2, dim2=-1).unsqueeze(-2) < 0
    return torch.where(is_negative, -orthonormal, orthonormal)


def polar_retraction(matrix: Tensor) -> Tensor:
    r"""Matrix with orthonormal columns nearest to a matrix in the Frobenius norm.

    .. math:: X (X^\top X)^{-1/2}

    Computed in float64 from the eigenvalues of the Gram matrix, whose rounding grows with the square of the
    condition number: matrices beyond 1e5 are refused, so a result is orthonormal to 1e-5 at worst, and to
    the rounding of its dtype near orthonormal matrices.

    Args:
        matrix: X, shape (\*, H, D), H >= D, condition number below 1e5.

    Returns:
        Shape (\*, H, D) with orthonormal columns, in the dtype of X. O(H D^2) time.

    Raises:
        InputError: If the matrix is not tall, or its columns are (nearly) dependent: several are nearest.

    Example:
        >>> polar_retraction(torch.tensor([[0.0, -2.0], [5.0, 0.0]])).tolist()
        [[0.0, -1.0], [1.0, 0.0]]
    """
    _check_tall(matrix, "matrix")
    precise = matrix.double()
    eigenvalues, eigenvectors = torch.linalg.eigh(precise.mT @ precise)
    if bool((eigenvalues[..., 0] <= _MAX_CONDITION**-2 * eigenvalues[..., -1]).any()):
        raise InputError(
            "Expected `matrix` with linearly independent columns, got a condition number above "
            f"{_MAX_CONDITION:g}; take a smaller step from orthonormal weights."
        )
    inverse_root = (eigenvectors * eigenvalues.rsqrt().unsqueeze(-2)) @ eigenvectors.mT
    return (precise @ inverse_root).to(matrix.dtype)


def orthogonality_drift(weight: Tensor) -> Tensor:
    r"""Distance of a weight from orthonormality, :math:`\|W^\top W - I\|_2` in the spectral norm.

    Args:
        weight: W, shape (\*, H, D); a wide one is transposed, so that its rows count.

    Returns:
        Shape (\*), float64; 0 when the columns (of a wide one: the rows) are orthonormal. O(H D^2) time.

    Raises:
        InputError: If `weight` is no matrix.

    Example:
        >>> orthogonality_drift(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])).item()
        3.0
    """
    check_shape(weight, "weight", "* H+ D+")
    check_finite(weight, "weight")
    if weight.shape[-2] < weight.shape[-1]:
        weight = weight.mT
    _check_tall(weight, "weight")
    precise = weight.double()
    identity = torch.eye(weight.shape[-1], dtype=torch.float64, device=weight.device)
    return torch.linalg.matrix_norm(precise.mT @ precise - identity, ord=2)


def _check_pair(weight: Tensor, gradient: Tensor) -> None:
    _check_tall(weight, "weight")
    check_shape(gradient, "gradient", "* H D")
    if gradient.shape != weight.shape:
        raise InputError(
            f"Expected `gradient` of the weight's shape {tuple(weight.shape)}, got {tuple(gradient.shape)}; "
            "pass the gradient with respect to this weight."
        )


def _check_tall(matrix: Tensor, name: str) -> None:
    check_shape(matrix, name, "* H D")
    if matrix.shape[-2] < matrix.shape[-1]:
        raise InputError(
            f"Expected `{name}` of shape (*, H, D) with H >= D, got {tuple(matrix.shape)}; "
            "pass matrices with at least as many rows as columns."
        )
