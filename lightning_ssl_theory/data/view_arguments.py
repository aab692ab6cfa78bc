"""What random views of photographs may be asked for, one at a time or a batch at once."""

from collections.abc import Sequence

from lightning_ssl_theory.checks import check_number, check_sequence


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
