"""Two views of a vector that share no coordinate: the masks under which features decouple."""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_instance, check_shape


def random_mask(inputs: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    r"""A random half of the coordinates of every row, doubled, and the other half, doubled.

    .. math:: x_+ = 2 D x, \quad x_{++} = 2 (I - D) x, \qquad
        E[x_+ x_{++}^\top \mid x] = x x^\top - \mathrm{diag}(x^2)

    with D diagonal, its entries independent Bernoulli(1/2), drawn anew for every row. What is independent from
    coordinate to coordinate, such as dense noise, has no correlation between the two; what is spread over
    many coordinates keeps it.

    Args:
        inputs: Shape (N, d1), floating.
        generator: Of the draws, on the device of the inputs; None is torch's.

    Returns:
        The two views, shape (N, d1) each; their mean is the input.

    References:
        Z. Wen, Y. Li, "Toward Understanding the Feature Learning Process of Self-supervised Contrastive
        Learning", 2021, Definition 2.3.

    Example:
        >>> first, second = random_mask(torch.ones(1, 4), generator=torch.Generator().manual_seed(0))
        >>> (first + second).tolist(), bool((first * second).any())
        ([[2.0, 2.0, 2.0, 2.0]], False)
    """
    check_shape(inputs, "inputs", "N d1")
    check_instance(generator, "generator", torch.Generator, or_none=True)
    factors = torch.empty_like(inputs).bernoulli_(0.5, generator=generator).mul_(2.0)
    first = factors * inputs
    return first, (2.0 - factors) * inputs
