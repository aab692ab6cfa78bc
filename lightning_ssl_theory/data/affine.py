"""Random affine maps of a batch of images, each image its own draw."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from lightning_ssl_theory.checks import InputError, check_finite, check_instance, check_number, check_shape


def random_affine(
    images: Tensor,
    *,
    rotation: float = 0.0,
    shift: float = 0.0,
    scale: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Images rotated, scaled and shifted at random, each by its own draw, resampled bilinearly.

    Image i shows at position p (in pixels from the centre) what was at
    :math:`R(\alpha_i) p / s_i + t_i`, with :math:`\alpha_i \sim U[-\mathrm{rotation}, \mathrm{rotation}]`
    degrees, :math:`\ln s_i \sim U[-\ln(1 + \mathrm{scale}), \ln(1 + \mathrm{scale})]` and both entries of
    :math:`t_i \sim U[-\mathrm{shift}, \mathrm{shift}]` pixels. Outside the image is 0.

    Args:
        images: (N, C, H, W), floating point, 0 = background.
        rotation: largest angle in degrees, >= 0.
        shift: largest shift in pixels, >= 0.
        scale: largest enlargement minus 1, >= 0.
        generator: source of the draws on the CPU; None is torch's default.

    Returns:
        Tensor (N, C, H, W). With all strengths 0 it is `images` up to rounding. Cost O(N C H W).

    Raises:
        InputError: If the images are not floating, or a number is out of its range.

    Example:
        >>> image = torch.eye(3).reshape(1, 1, 3, 3)
        >>> torch.allclose(random_affine(image), image, atol=1e-6)
        True
    """
    check_shape(images, "images", "N+ C+ H+ W+")
    if not images.is_floating_point():
        raise InputError(f"Expected `images` of a floating dtype, got {images.dtype}; convert them.")
    check_finite(images, "images")
    for name, value in {"rotation": rotation, "shift": shift, "scale": scale}.items():
        check_number(value, name, "[0, inf)")
    check_instance(generator, "generator", torch.Generator, or_none=True)
    num_samples, _, height, width = images.shape
    angle, log_scale, shift_x, shift_y = (
        torch.rand(4, num_samples, generator=generator, dtype=images.dtype).to(images.device) * 2 - 1
    )
    angle, inverse = angle * math.radians(rotation), torch.exp(-log_scale * math.log1p(scale))
    cosine, sine = angle.cos() * inverse, angle.sin() * inverse
    # affine_grid measures positions in half widths and half heights
    rows = [cosine, -sine * (height / width), shift_x * (2 * shift / width)]
    rows += [sine * (width / height), cosine, shift_y * (2 * shift / height)]
    theta = torch.stack(rows, dim=1).reshape(num_samples, 2, 3)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
