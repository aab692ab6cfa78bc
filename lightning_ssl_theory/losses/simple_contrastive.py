r"""The simple contrastive loss :math:`r_+ - r_-`, whose gradient is the covariance operator times w."""

import torch
from torch import Tensor

from lightning_ssl_theory.distributed import RowPlaces, all_sum_with_grad
from lightning_ssl_theory.losses.pairwise import Distance, PairwiseLoss, check_pairs, half_squares


class SimpleContrastiveLoss(PairwiseLoss):
    r"""Mean distance between the views of a sample minus mean distance between different samples.

    .. math::
        L = (1 + \beta) \frac1N \sum_i \tfrac12 \|z_{i1} - z_{i2}\|^2
            - \frac1{4 N (N-1)} \sum_{i \ne j} \sum_{a,b} \tfrac12 \|z_{ia} - z_{jb}\|^2

    Negatives are all views of all other samples of all ranks. For a bias-free (leaky-)ReLU network and
    `distance="squared"` the gradient with respect to any layer's weights w is
    :math:`-2 U w + 2 \beta W_n w` on every batch, U the unbiased covariance operator of that layer. The
    loss has no lower bound: without a normalised output, a constraint or few steps the weights grow for ever.

    Cost: O(n_r D) time and memory; between ranks only sums travel, no rows.

    Args:
        distance: "squared" or "cosine".
        beta: Additional weight of the distance between views.

    References:
        Tian, Yu, Chen, Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks", 2020,
        Theorem 2.

    Example:
        >>> z = torch.tensor([[0.0], [2.0]])
        >>> float(SimpleContrastiveLoss()(z, z))  # r_+ = 0, r_- = 2^2 / 2
        -2.0
    """

    def __init__(self, *, distance: Distance = "squared", beta: float = 0.0) -> None:
        super().__init__(distance=distance, beta=beta)

    def pair_weight(self, r: Tensor) -> Tensor:
        r"""Equal weights: :math:`\xi_{ij} = N/(N-1)`.

        Args:
            r: Halved squared distances between mean outputs, shape (N, N).

        Returns:
            :math:`\xi`, shape (N, N), zero on the diagonal.
        """
        check_pairs(r)
        return torch.full_like(r, len(r) / (len(r) - 1)).fill_diagonal_(0.0)

    def _anchor_sum(self, views: Tensor, places: RowPlaces) -> Tensor:
        z1, z2 = self._points(views)
        mean = all_sum_with_grad(z1.sum(0) + z2.sum(0)) / (2 * places.total)
        # All ordered pairs of the 2N views have half squared distances of 2N sum ||z - mean||^2 together;
        # those within the samples are 2 sum r_+.
        spread = 2 * (half_squares(z1 - mean) + half_squares(z2 - mean)).sum()
        positive = half_squares(z1 - z2).sum()
        return positive - (places.total * spread - positive) / (2 * (places.total - 1))
