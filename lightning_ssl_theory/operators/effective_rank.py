r"""Effective rank: the exponential of the entropy of eigenvalue shares.

References: O. Roy, M. Vetterli, "The effective rank", 2007.
"""

from torch import Tensor
from torch.special import entr


def effective_rank(eigenvalues: Tensor) -> Tensor:
    r"""Effective rank of a positive semi-definite operator.

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \quad p_k = \lambda_k / \sum_j \lambda_j

    Args:
        eigenvalues: (D,); negative ones (rounding, or an unbiased estimate) count as zero.

    Returns:
        A scalar between 1 and D; 1 where all eigenvalues are zero. Time O(D).

    Example:
        >>> import torch
        >>> round(float(effective_rank(torch.tensor([2.0, 2.0, 0.0]))), 4)
        2.0
    """
    positive = eigenvalues.clamp(min=0)
    total = positive.sum()
    return entr(positive / total.where(total > 0, 1)).sum().exp()
