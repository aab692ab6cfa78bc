r"""How much the dimensions of a representation move together: 1 when all of them tell the same."""

from collections.abc import Callable

from torch import Tensor

from lightning_ssl_theory.checks import check_finite, check_shape
from lightning_ssl_theory.moments import EPS, to_float64
from lightning_ssl_theory.row_blocks import row_blocks


def dimension_alignment(features: Tensor) -> Tensor:
    r"""Mean absolute correlation between pairs of dimensions.

    .. math:: \frac{2}{D(D-1)} \sum_{i < j} |\mathrm{corr}(f_i, f_j)|

    Unconstrained trace losses drive it to 1: every output follows the same dynamics. Pairs with a dimension that is
    constant, up to rounding, are left out; without any pair left the representation is one direction, and reads 1.

    Args:
        features: Shape (N, D), any real dtype.

    Returns:
        Scalar in [0, 1], float64. O(N D^2) time; O(N D) memory and blocks of 32 MB, never D x D.

    Raises:
        InputError: If it is no tensor, or if the shape does not fit or a value is not finite.

    Example:
        >>> import torch
        >>> dimension_alignment(torch.tensor([[1.0, -2.0, 0.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 7.0]])).item() < 0.34
        True
    """
    check_shape(features, "features", "N+ D+")
    check_finite(features, "features")
    exact = to_float64(features)
    # What is left of a constant is what the mean is off by: at most N eps of it.
    rounding = (len(exact) * EPS) ** 2 * exact.square().mean(0)
    return alignment_of_rows(exact - exact.mean(0), rounding)


def alignment_of_rows(centred: Tensor, rounding: Tensor) -> Tensor:
    """The same from features of mean zero.

    Args:
        centred: Shape (N, D), float64.
        rounding: Variances up to which a dimension counts as constant, shape (D,).

    Returns:
        Scalar in [0, 1], float64. O(N D^2) time.
    """
    num_samples = len(centred)
    return _mean_correlation(
        lambda rows, columns: centred[:, rows].mT @ centred[:, columns] / num_samples,
        centred.square().mean(0),
        rounding,
    )


def alignment_of_covariance(covariance: Tensor, rounding: Tensor) -> Tensor:
    """The same from the covariance of the dimensions.

    Args:
        covariance: Shape (D, D), float64.
        rounding: Variances up to which a dimension counts as constant, shape (D,).

    Returns:
        Scalar in [0, 1], float64. O(D^2) time.
    """
    return _mean_correlation(lambda rows, columns: covariance[rows, columns], covariance.diagonal(), rounding)


def _mean_correlation(block: Callable[[slice, slice], Tensor], variances: Tensor, rounding: Tensor) -> Tensor:
    varies = variances > rounding
    scale = variances.where(varies, 1).rsqrt() * varies  # 0 leaves a dimension out
    width = len(variances)
    total = scale.new_zeros(())
    for rows in row_blocks(width, width):
        columns = slice(rows.start, width)
        correlations = (block(rows, columns) * scale[columns] * scale[rows, None]).abs().clamp(max=1)
        total += correlations.triu(diagonal=1).sum()  # i < j: the block begins on the diagonal
    num_varying = varies.sum()
    num_pairs = num_varying * (num_varying - 1) / 2
    return (total / num_pairs.clamp(min=1)).where(num_pairs > 0, 1.0)
