"""Random views of a photograph, and the clean image they are views of."""

from collections.abc import Sequence

import torch
from torchvision.transforms import v2

from lightning_ssl_theory.checks import check_integer
from lightning_ssl_theory.data.view_arguments import (
    check_crop_scale,
    check_normalisation,
    check_view_strengths,
)


def random_view(
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    crop: float = 0.8,
    flip: float = 0.5,
    color: float = 0.5,
    gray: float = 0.2,
    blur: float = 0.5,
    scale: tuple[float, float] | None = None,
) -> v2.Transform:
    r"""Random crop, flip, colour, grey and blur of one image: a new draw from torch's generator in each call.

    In this order, each left out where its strength is 0 (without a crop the clean crop is taken):

    - crop: a share of the area between 1 - crop and 1, aspect ratio 3/4 to 4/3, resized to `size`;
    - flip: left and right exchanged with this probability;
    - color: with probability 0.8 brightness, contrast and saturation by factors in 1 +- 0.8 color, hue by
      +- 0.2 color turns; images of one channel: brightness and contrast only;
    - gray: colours removed with this probability; not for images of one channel;
    - blur: with this probability, by a Gaussian of standard deviation 0.1 to 2 pixels.

    Args:
        size: height and width of the view in pixels.
        mean: of each channel of pixels in [0, 1], which is subtracted; its length is the number of channels.
        std: of each channel of pixels in [0, 1], by which the difference is divided.
        crop: in [0, 1).
        flip: in [0, 1].
        color: in [0, 2.5].
        gray: in [0, 1].
        blur: in [0, 1].
        scale: smallest and largest share of the area that a crop keeps, in (0, 1], in place of `crop`.

    Returns:
        Transform of a PIL image or an image tensor (C, H, W) to a float32 tensor (C, size, size).

    Example:
        >>> image = torch.full((3, 40, 32), 255, dtype=torch.uint8)
        >>> view = random_view(32, [0.5] * 3, [0.5] * 3, color=0.0, gray=0.0, blur=0.0)
        >>> view(image).shape, view(image).unique()
        (torch.Size([3, 32, 32]), tensor([1.]))

    References:
        T. Chen, S. Kornblith, M. Norouzi, G. Hinton, A Simple Framework for Contrastive Learning of Visual
        Representations, 2020, appendix A.
    """
    check_integer(size, "size", at_most=2**20)
    check_normalisation(mean, std)
    check_view_strengths(crop=crop, flip=flip, color=color, gray=gray, blur=blur)
    check_crop_scale(scale, or_none=True)
    has_color = len(mean) > 1
    steps: list[v2.Transform] = [v2.ToImage()]
    if crop or scale:
        steps.append(v2.RandomResizedCrop(size, scale=scale or (1 - crop, 1.0), antialias=True))
    else:
        steps += _clean_crop(size)
    if flip:
        steps.append(v2.RandomHorizontalFlip(flip))
    if color:
        steps.append(v2.RandomApply([_color_jitter(color, has_color=has_color)], p=0.8))
    if gray and has_color:
        steps.append(v2.RandomGrayscale(gray))
    if blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(_odd_kernel(size), sigma=(0.1, 2.0))], p=blur))
    return v2.Compose([*steps, *_normalised(mean, std)])


def clean_image(size: int, mean: Sequence[float], std: Sequence[float]) -> v2.Transform:
    """The image itself: its shorter side resized to `size`, the centre cropped, normalised as the views are.

    Args:
        size: height and width of the result in pixels.
        mean: of each channel of pixels in [0, 1], which is subtracted.
        std: of each channel of pixels in [0, 1], by which the difference is divided.

    Returns:
        Transform of a PIL image or an image tensor (C, H, W) to a float32 tensor (C, size, size).

    Example:
        >>> image = torch.full((1, 28, 28), 255, dtype=torch.uint8)
        >>> clean_image(28, [0.5], [0.25])(image).unique()
        tensor([2.])
    """
    check_integer(size, "size", at_most=2**20)
    check_normalisation(mean, std)
    return v2.Compose([v2.ToImage(), *_clean_crop(size), *_normalised(mean, std)])


def stored_image(size: int) -> v2.Transform:
    """The image of `clean_image` before it is normalised, in the pixels that are stored.

    Args:
        size: height and width of the result in pixels.

    Returns:
        Transform of a PIL image or an image tensor (C, H, W) to a tensor (C, size, size), uint8 for usual images.

    Example:
        >>> stored_image(28)(torch.full((1, 40, 28), 255, dtype=torch.uint8)).unique()
        tensor([255], dtype=torch.uint8)
    """
    check_integer(size, "size", at_most=2**20)
    return v2.Compose([v2.ToImage(), *_clean_crop(size), v2.ToPureTensor()])


def _clean_crop(size: int) -> list[v2.Transform]:
    return [v2.Resize(size, antialias=True), v2.CenterCrop(size)]


def _color_jitter(color: float, *, has_color: bool) -> v2.Transform:
    if not has_color:
        return v2.ColorJitter(brightness=0.8 * color, contrast=0.8 * color)
    return v2.ColorJitter(0.8 * color, 0.8 * color, 0.8 * color, 0.2 * color)


# About a tenth of the image, as in the reference, at least 3.
def _odd_kernel(size: int) -> int:
    return max(3, size // 20 * 2 + 1)


def _normalised(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std)), v2.ToPureTensor()]
