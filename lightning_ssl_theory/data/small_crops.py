"""Small crops beside the views of an image: how many, of how many pixels, of which part of the image."""

from typing import NamedTuple

from lightning_ssl_theory.checks import InputError, check_integer
from lightning_ssl_theory.data.view_arguments import check_crop_scale


class SmallCrops(NamedTuple):
    """`number` crops of `size` pixels squared, each a share of the image's area between the two of `scale`."""

    number: int
    size: int
    scale: tuple[float, float]


def small_crops_of(
    number: int, size: int | None, scale: tuple[float, float], *, image_size: int
) -> SmallCrops:
    """What arguments of the user's say of small crops.

    Args:
        number: 0 or more.
        size: None is 3/7 of the image's, 96 for 224.
        scale: smallest and largest share of the area, in (0, 1].
        image_size: height and width of the large views.

    Returns:
        The crops.

    Raises:
        InputError: a number is out of its range, or the crops would be no smaller than the large views.

    Example:
        >>> small_crops_of(6, None, (0.05, 0.14), image_size=224)
        SmallCrops(number=6, size=96, scale=(0.05, 0.14))
    """
    check_integer(number, "num_small_crops", at_least=0)
    check_integer(size, "small_crop_size", or_none=True)
    check_crop_scale(scale, "small_crop_scale")
    pixels = size or max(1, round(3 / 7 * image_size))
    if number and pixels >= image_size:
        raise InputError(
            f"Expected `small_crop_size` below {image_size}, the size of the large views, got {pixels}; losses tell "
            "the views apart by it, and equal ones are had by `num_views`."
        )
    return SmallCrops(number, pixels, (float(scale[0]), float(scale[1])))
