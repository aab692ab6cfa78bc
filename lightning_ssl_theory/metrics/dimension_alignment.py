r"""How much the dimensions of a representation move together: 1 when all of them tell the same."""

from torch import Tensor

from lightning_ssl_theory.checks import check_finite, check_shape
from lightning_ssl_theory.moments import EPS, to_float64


def dimension_alignment(features: Tensor) -> Tensor:
    r"""Mean absolute correlation between pairs of dimensions.

    .. math:: \frac{2}{D(D-1)} \sum_{i < j} |\mathrm{corr}(f_i, f_j)|

    Unconstrained trace losses drive it to 1: every output follows the same dynamics. Pairs with a dimension that is
    constant, up to rounding, are left out; without any pair left the representation is one direction, and reads 1.

    Args:
        features: Shape (N, D), any real dtype.

    Returns:
        Scalar in [0, 1], float64. O(N D^2) time.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If the shape does not fit or a value is not finite.

    Example:
        >>> import torch
        >>> dimension_alignment(torch.tensor([[1.0, -2.0, 0.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 7.0]])).item() < 0.34
        True
    """
    check_shape(features, "features", "N D")
    check_finite(features, "features")
    exact = to_float64(features)
    centred = exact - exact.mean(0)
    rounding = len(exact) * EPS * exact.square().mean(0)
    return alignment_of_covariance(centred.mT @ centred / len(exact), rounding)


def alignment_of_covariance(covariance: Tensor, rounding: Tensor) -> Tensor:
    """The same from the covariance of the dimensions.

    Args:
        covariance: Shape (D, D), float64.
        rounding: Variances up to which a dimension counts as constant, broadcast to shape (D,).

    Returns:
        Scalar in [0, 1], float64. O(D^2) time.
    """
    variances = covariance.diagonal()
    varies = variances > rounding
    scale = variances.where(varies, 1).rsqrt()
    correlations = (covariance * scale * scale[:, None]).abs().clamp(max=1)
    is_pair = (varies & varies[:, None]).triu(diagonal=1)
    num_pairs = is_pair.sum()
    mean = (correlations * is_pair).sum() / num_pairs.clamp(min=1)
    return mean.where(num_pairs > 0, 1.0)
