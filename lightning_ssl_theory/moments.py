"""Float64 sums over samples, the variance that follows from them, and the entropy rank of a spectrum.

Sums of powers merge over batches and ranks by addition. Their price is cancellation: the variance from them
carries a relative error of about N eps (mean / std)^2. In float64 this is below what rounding the features
to float32 has already done, whatever their mean; float64 features with a mean of 1e6 standard deviations and
more should be shifted first.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.special import entr

from lightning_ssl_theory.checks import InputError, check_finite, check_shape

EPS = torch.finfo(torch.float64).eps


def device_with_float64(device: torch.device) -> torch.device:
    """Where float64 sums of a tensor on this device can live.

    Args:
        device: Device of the features.

    Returns:
        The device itself, or the CPU for one without float64 (mps).
    """
    return torch.device("cpu") if device.type == "mps" else device


def to_float64(tensor: Tensor) -> Tensor:
    """Values in float64, detached; on the CPU where the device has no float64.

    Args:
        tensor: Any real tensor; half precision, integers and bool are converted exactly.

    Returns:
        The same values and shape.
    """
    # Device first: one without float64 cannot hold the result for a moment.
    return tensor.detach().to(device_with_float64(tensor.device)).to(torch.float64)


def check_any_sample(num_samples: Tensor) -> None:
    """Raise unless something was counted.

    Args:
        num_samples: A scalar.

    Raises:
        InputError: If it is zero.
    """
    if num_samples == 0:
        raise InputError("Expected at least one sample, got none; call `update` with features first.")


def variance_from_sums(num_samples: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    r"""Variance over samples, exactly zero for constant features.

    .. math:: \frac{q}{N} - \Big(\frac{s}{N}\Big)^2, \quad s = \sum_n x_n, \; q = \sum_n x_n^2,

    and 0 where this is no more than :math:`N \epsilon\, q / N`, the most that rounding can leave of a
    constant.

    Args:
        num_samples: Number of samples N >= 1, a scalar.
        total: Sum s, shape (D,), float64.
        squares: Sum of squares q, shape (D,), float64.

    Returns:
        Shape (D,), the mean squared deviation (1/N).

    Example:
        >>> x = torch.tensor([[1.0, 0.1], [3.0, 0.1]], dtype=torch.float64)
        >>> variance_from_sums(torch.tensor(2), x.sum(0), x.square().sum(0)).tolist()
        [1.0, 0.0]
    """
    second_moment = squares / num_samples
    variance = second_moment - (total / num_samples).square()
    return variance.where(variance > num_samples * EPS * second_moment, 0)


def class_sums(features: Tensor, targets: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Number of samples and sum of features of each class.

    Args:
        features: Shape (N, D), floating.
        targets: Class of each row, shape (N,), integers in 0..C-1.
        num_classes: Number of classes C.

    Returns:
        Counts (C,) and sums (C, D), in the dtype and on the device of the features. As a product with the
        one-hot labels, O(N C D) time and O(N C) memory, so that the result is the same on every run.

    Example:
        >>> class_sums(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 1, 1]), 3)
        (tensor([1., 2., 0.]), tensor([[1.],
                [6.],
                [0.]]))
    """
    membership = one_hot(targets.to(features.device, torch.int64), num_classes).to(features.dtype)  # (N, C)
    return membership.sum(0), membership.mT @ features


def effective_rank(eigenvalues: Tensor) -> Tensor:
    r"""Effective rank of a positive semi-definite operator.

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \quad p_k = \lambda_k / \sum_j \lambda_j

    Args:
        eigenvalues: (D,); negative ones (rounding, or an unbiased estimate) count as zero.

    Returns:
        A scalar between 1 and D; 1 where all eigenvalues are zero. Time O(D).

    References:
        O. Roy, M. Vetterli, "The effective rank", 2007.

    Example:
        >>> round(float(effective_rank(torch.tensor([2.0, 2.0, 0.0]))), 4)
        2.0
    """
    check_shape(eigenvalues, "eigenvalues", "D+")
    check_finite(eigenvalues, "eigenvalues")
    positive = eigenvalues.clamp(min=0)
    total = positive.sum()
    return entr(positive / total.where(total > 0, 1)).sum().exp()
