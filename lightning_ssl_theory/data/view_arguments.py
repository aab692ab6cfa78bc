"""What random views of photographs may be asked for, one at a time or a batch at once."""

from collections.abc import Sequence
from typing import Any

from lightning_ssl_theory.checks import InputError, check_number, check_sequence


def check_view_strengths(*, crop: float, flip: float, color: float, gray: float, blur: float) -> None:
    """Raise InputError unless every strength of `random_view` is in its range.

    Args:
        crop: in [0, 1).
        flip: in [0, 1].
        color: in [0, 2.5].
        gray: in [0, 1].
        blur: in [0, 1].
    """
    check_number(crop, "crop", "[0, 1)")
    check_number(flip, "flip", "[0, 1]")
    check_number(color, "color", "[0, 2.5]")
    check_number(gray, "gray", "[0, 1]")
    check_number(blur, "blur", "[0, 1]")


def check_crop_scale(scale: Any, name: str = "scale", *, or_none: bool = False) -> None:
    """Raise InputError unless two numbers are the smallest and the largest share of the area that a crop keeps.

    Args:
        scale: two numbers, 0 < smallest <= largest <= 1.
        name: what the caller calls it.
        or_none: whether None will do, too.

    Raises:
        InputError: they are something else.
    """
    if scale is None and or_none:
        return
    check_sequence(scale, name, at_least=2)
    for share in scale:
        check_number(share, name, "(0, 1]", advice="it is a share of the area")
    if len(scale) > 2 or scale[0] > scale[1]:
        raise InputError(
            f"Expected `{name}` to be the smallest and the largest share of the area, got {list(scale)}; "
            "pass two numbers in this order."
        )


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise InputError unless pixels can be normalised.

    Args:
        mean: of each channel, numbers.
        std: of each channel, as many positive numbers.
    """
    check_sequence(mean, "mean")
    check_sequence(std, "std", at_least=len(mean))
    for value in mean:
        check_number(value, "mean")
    for value in std:
        check_number(value, "std", "(0, inf)")
