"""The strength of an augmentation, which is also its switch."""

import math

from lightning_ssl_theory.checks import InputError

Strength = float | bool | None
"""A number; 0, False and None switch the augmentation off; True stands for the usual strength."""


def strength_of(value: Strength, name: str, *, usual: float, maximum: float = math.inf) -> float:
    """The number that a strength stands for.

    Args:
        value: the strength as the user gave it.
        name: of the argument.
        usual: what True stands for.
        maximum: the largest number allowed.

    Returns:
        A number in [0, `maximum`], 0 = off.

    Raises:
        InputError: `value` is no number, bool or None, or the number is out of its range.

    Example:
        >>> [strength_of(value, "flip", usual=0.5, maximum=1) for value in (True, 0.25, False, None)]
        [0.5, 0.25, 0.0, 0.0]
    """
    if value is None or isinstance(value, bool):
        return usual if value else 0.0
    if not isinstance(value, int | float):
        raise InputError(
            f"Expected `{name}` to be a number, True, False or None, got {type(value).__name__}; "
            "pass 0 to switch it off."
        )
    if not 0 <= value <= maximum or math.isinf(value):
        upper = "" if math.isinf(maximum) else f" and <= {maximum:g}"
        raise InputError(f"Expected `{name}` >= 0{upper}, got {value}; pass 0 to switch it off.")
    return float(value)
