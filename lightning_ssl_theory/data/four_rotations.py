"""The pretext of rotations: every image in four, and which is which."""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_shape


def four_rotations(images: Tensor) -> tuple[Tensor, Tensor]:
    """All images upright, then all turned by 90, 180 and 270 degrees, counter-clockwise.

    Args:
        images: Shape (N, C, H, H).

    Returns:
        Images (4 N, C, H, H), and their numbers of quarter turns (4 N,), 0 to 3.

    Raises:
        InputError: If they are no square images.

    References: S. Gidaris, P. Singh, N. Komodakis, "Unsupervised representation learning by predicting image
    rotations", 2018.

    Example:
        >>> turned, turns = four_rotations(torch.tensor([[[[1, 2], [3, 4]]]]))
        >>> turned[1].tolist(), turns.tolist()
        ([[[2, 4], [1, 3]]], [0, 1, 2, 3])
    """
    check_shape(images, "images", "N C+ H+ W+")
    if images.shape[2] != images.shape[3]:
        raise InputError(
            f"Expected square `images` to turn, got {tuple(images.shape)}; crop or pad them to one height and width."
        )
    turned = [torch.rot90(images, turns, (2, 3)) for turns in range(4)]
    turns = torch.arange(4, device=images.device).repeat_interleave(len(images))
    return torch.cat(turned), turns
