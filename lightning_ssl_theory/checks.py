"""The checks at the public boundary: one sentence of what was expected, what was found and what to do."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, get_args

import torch
from torch import Tensor

_ORDERS = {0: "a scalar tensor", 1: "a vector", 2: "a matrix"}
_MOST_LEAVES = 2**24 + 1
_LARGEST = 2**63 - 1  # what a tensor's size can be


class InputError(ValueError, TypeError):
    """What a user gave cannot be used: every sentence of this library on its input, and no other error.

    It is a ValueError and a TypeError, so that nobody has to know which of them a sentence is.
    """


def check_shape(tensor: Tensor, name: str, layout: str) -> None:
    r"""Raise unless a tensor holds real numbers and has the named dimensions.

    Args:
        tensor: The tensor to look at.
        name: What the caller calls it.
        layout: Dimensions separated by spaces: a word for any size, the same wherever it recurs, with a last `+`
            for any but 0; a number for exactly that size; a last or first `*` for any further dimensions. "N+ D" is
            a matrix with a row, "N N" a square one, "N 2 *" two views of anything.

    Raises:
        InputError: If it is no tensor, holds complex numbers, or its shape does not fit.

    Example:
        >>> check_shape(torch.zeros(3), "features", "N D")
        Traceback (most recent call last):
        lightning_ssl_theory.checks.InputError: Expected `features` of shape (N, D), got (3,); pass a matrix.
    """
    if not isinstance(tensor, Tensor):
        raise InputError(
            f"Expected `{name}` to be a torch.Tensor, got {type(tensor).__name__}; use torch.as_tensor."
        )
    if tensor.is_complex():
        raise InputError(f"Expected `{name}` of real numbers, got {tensor.dtype}; pass its real part.")
    words = layout.split()
    is_open = "*" in words
    sizes = [word for word in words if word != "*"]
    fits_order = tensor.ndim >= len(sizes) if is_open else tensor.ndim == len(sizes)
    if fits_order and _sizes_fit(sizes, tensor.shape[-len(sizes) :] if words[:1] == ["*"] else tensor.shape):
        return
    expected = f"({words[0]},)" if len(words) == 1 else f"({', '.join(words)})"
    is_empty = fits_order and tensor.numel() == 0
    for word in (word for word in sizes if word.endswith("+")):
        expected = expected.replace(word, word[:-1]) + (f" with {word[:-1]} >= 1" if is_empty else "")
    order = _order_in_words(len(sizes), is_open)
    advice = "pass samples" if is_empty else "transpose or slice it" if fits_order else f"pass {order}"
    raise InputError(f"Expected `{name}` of shape {expected}, got {tuple(tensor.shape)}; {advice}.")


def check_integer(
    value: Any,
    name: str,
    *,
    at_least: int = 1,
    at_most: int = _LARGEST,
    advice: str = "pass a whole number",
    or_none: bool = False,
) -> None:
    """Raise unless a value is a whole number in a range.

    Args:
        value: What to look at; neither a bool nor 2.0 is one.
        name: What the caller calls it.
        at_least: The smallest that will do.
        at_most: The largest.
        advice: The end of the sentence.
        or_none: Whether None will do, too.

    Raises:
        InputError: If it is anything else.

    Example:
        >>> check_integer(0, "num_views")
        Traceback (most recent call last):
        lightning_ssl_theory.checks.InputError: Expected `num_views` of at least 1, got 0; pass a whole number.
    """
    if value is None and or_none:
        return
    if not _is_number(value, Integral):
        raise InputError(f"Expected `{name}` to be an integer, got {described(value)}; {advice}.")
    if value < at_least:
        raise InputError(f"Expected `{name}` of at least {at_least}, got {value}; {advice}.")
    if value > at_most:
        raise InputError(f"Expected `{name}` of at most {at_most}, got {value}; {advice}.")


def check_number(
    value: Any,
    name: str,
    interval: str = "(-inf, inf)",
    *,
    advice: str = "pass a finite number",
    or_none: bool = False,
) -> None:
    """Raise unless a value is a number in an interval.

    Args:
        value: What to look at; a bool is none, and NaN lies in no interval.
        name: What the caller calls it.
        interval: Its ends, round brackets for those that it does not contain: "(0, 1]".
        advice: The end of the sentence.
        or_none: Whether None will do, too.

    Raises:
        InputError: If it is anything else.

    Example:
        >>> check_number(2.0, "probability", "(0, 1]")
        Traceback (most recent call last):
        lightning_ssl_theory.checks.InputError: Expected `probability` in (0, 1], got 2.0; pass a finite number.
    """
    if value is None and or_none:
        return
    if not _is_number(value, Real):
        raise InputError(f"Expected `{name}` to be a number, got {described(value)}; {advice}.")
    low, high = map(float, interval[1:-1].split(","))
    is_above = value > low or (value == low and interval[0] == "[")
    is_below = value < high or (value == high and interval[-1] == "]")
    if not (is_above and is_below):
        raise InputError(f"Expected {_in_interval(name, interval)}, got {value}; {advice}.")


def check_positive(value: Any, name: str) -> None:
    """Raise InputError unless a number is positive and finite."""
    check_number(value, name, "(0, inf)", advice="pass a positive finite number")


def check_flag(value: Any, name: str) -> None:
    """Raise InputError unless a value is True or False; 1 and "yes" are neither."""
    if not isinstance(value, bool):
        raise InputError(f"Expected `{name}` to be True or False, got {described(value)}; choose one.")


def check_word(value: Any, name: str, words: Any) -> None:
    """Raise unless a value is one of the words of a choice.

    Args:
        value: What to look at.
        name: What the caller calls it.
        words: The `Literal` that the caller is annotated with.

    Raises:
        InputError: If it is none of them.
    """
    if not isinstance(value, str) or value not in get_args(words):
        raise InputError(
            f"Expected `{name}` to be one of {', '.join(get_args(words))}, got {described(value)}; choose one."
        )


def check_callable(value: Any, name: str, *, or_none: bool = False) -> None:
    """Raise InputError unless a value can be called, or is the None that will do."""
    if not callable(value) and not (value is None and or_none):
        raise InputError(f"Expected `{name}` to be a function, got {described(value)}; pass a callable.")


def check_instance(value: Any, name: str, kind: type | tuple[type, ...], *, or_none: bool = False) -> None:
    """Raise InputError unless a value is of a class, or of one of several; a class itself is not."""
    if not isinstance(value, kind) and not (value is None and or_none):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(one.__name__ for one in kinds)
        raise InputError(f"Expected `{name}` to be of type {names}, got {described(value)}; build one.")


def check_device(value: Any, name: str) -> None:
    """Raise unless a value is the name of a device.

    Raises:
        InputError: If it is none.
    """
    try:
        torch.device(value if isinstance(value, str | torch.device) else "")
    except RuntimeError as error:
        raise InputError(f'Expected `{name}` to be a device, got {described(value)}; pass "cpu".') from error


def check_sequence(value: Any, name: str, *, at_least: int = 1) -> None:
    """Raise InputError unless a value is a sequence with enough elements; text is none."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise InputError(f"Expected `{name}` to be a list, got {described(value)}; put it into brackets.")
    if len(value) < at_least:
        raise InputError(f"Expected `{name}` of at least {at_least} elements, got {len(value)}; pass more.")


def check_names(value: Any, name: str, *, at_least: int = 1) -> None:
    """Raise InputError unless a value is a list of enough names, none of them empty."""
    check_sequence(value, name, at_least=at_least)
    for one in value:
        if not isinstance(one, str) or not one:
            raise InputError(
                f"Expected `{name}` to be a list of names, got {described(one)} in it; use text."
            )


def described(value: Any) -> str:
    """A value in a few words: numbers, text and None as Python writes them, cut; of all else the type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    is_plain = value is None or isinstance(value, str | bytes | bool | int | float | complex)
    return repr(value)[:60] if is_plain else type(value).__name__


def check_tree(depth: int, num_children: int) -> None:
    """Raise InputError unless a depth and a number of children make a tree that fits into memory."""
    check_integer(num_children, "num_children", at_least=2, advice="pass 2 for a binary tree")
    deepest = int(math.log(_MOST_LEAVES, min(num_children, _MOST_LEAVES)))
    check_integer(depth, "depth", at_most=deepest, advice="it is the number of levels below the root")


def check_finite(tensor: Tensor, name: str) -> None:
    """Raise InputError when a tensor holds NaN or infinite values. Waits for the device; makes no copy."""
    if (
        tensor.numel()
        and not tensor.is_complex()
        and all(map(math.isfinite, map(float, torch.aminmax(tensor.detach()))))
    ):
        return  # both ends are NaN where anything is
    num_bad = tensor.numel() - int(torch.isfinite(tensor).sum())
    if num_bad:
        raise InputError(
            f"Expected finite `{name}`, got {num_bad} of {tensor.numel()} values NaN or infinite; "
            "check what made them."
        )


def check_dtype(tensor: Tensor, name: str, dtype: torch.dtype) -> None:
    """Raise InputError unless a tensor is of a dtype."""
    if tensor.dtype != dtype:
        raise InputError(f"Expected `{name}` of {dtype}, got {tensor.dtype}; convert it.")


def check_targets(targets: Tensor, num_rows: int, num_classes: int | None, name: str = "targets") -> None:
    """Raise InputError unless each of N rows has a class index, below C where C is known. Waits for the device."""
    check_integer(num_classes, "num_classes", or_none=True)
    if not isinstance(targets, Tensor):
        raise InputError(
            f"Expected `{name}` to be a tensor of class indices, got {type(targets).__name__}; pass labels."
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise InputError(f"Expected `{name}` of an integer dtype, got {targets.dtype}; pass class indices.")
    check_shape(targets, name, str(num_rows))
    if targets.numel() == 0:
        return
    lowest, highest = (int(value) for value in torch.aminmax(targets))
    largest = highest if num_classes is None else num_classes - 1
    if lowest < 0 or highest > largest:
        raise InputError(
            f"Expected `{name}` in 0..{max(largest, 0)}, got {lowest} to {highest}; "
            "drop unlabelled rows or raise `num_classes`."
        )


def check_two_classes(class_count: Tensor) -> None:
    """Raise InputError unless samples of at least two classes, (C,), were counted. Waits for the device."""
    present = class_count.nonzero().flatten().tolist()
    if len(present) < 2:
        found = f"only class {present[0]}" if present else "no samples"
        raise InputError(
            f"Expected samples of at least two classes, got {found}; pass more samples, or shuffle them."
        )


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _sizes_fit(words: list[str], shape: Sequence[int]) -> bool:
    expected: dict[str, int] = {}
    return all(
        size == (int(word) if word.isdigit() else expected.setdefault(word, size))
        and not (word.endswith("+") and size == 0)
        for word, size in zip(words, shape, strict=False)
    )


def _in_interval(name: str, interval: str) -> str:
    if interval == "(-inf, inf)":
        return f"a finite `{name}`"
    if interval.endswith("inf)"):
        return f"`{name}` {'>' if interval[0] == '(' else '>='} {interval[1:].split(',')[0]}"
    return f"`{name}` in {interval}"


def _order_in_words(num_dimensions: int, is_open: bool) -> str:
    if is_open:
        return f"a tensor of at least {num_dimensions} dimensions"
    return _ORDERS.get(num_dimensions, f"a tensor of {num_dimensions} dimensions")
