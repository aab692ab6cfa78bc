"""Weights of a layer that looks at pixels, as images."""

import math

from torch import Tensor


def filter_images(weight: Tensor) -> Tensor | None:
    """One image a filter.

    Args:
        weight: (O, C, height, width) of a convolution, or (O, C height width) of a linear layer on flattened images.

    Returns:
        (O, 1 or 3, height, width), in the weight's own scale; channels other than one or three are averaged. `None`
        where the layer does not look at pixels: kernels of one pixel, inputs that are no square image.

    Example:
        >>> import torch
        >>> filter_images(torch.zeros(8, 28 * 28)).shape
        torch.Size([8, 1, 28, 28])
    """
    if weight.ndim == 4:
        if weight.shape[1] not in {1, 3}:
            weight = weight.mean(dim=1, keepdim=True)
        return weight if weight.shape[-1] > 1 else None
    for channels in (1, 3):
        side = math.isqrt(weight.shape[1] // channels)
        if weight.ndim == 2 and side >= 3 and channels * side * side == weight.shape[1]:
            return weight.reshape(-1, channels, side, side)
    return None
