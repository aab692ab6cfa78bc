"""The checks at the public boundary: one sentence of what was expected, what was found and what to do."""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

_ORDERS = {0: "a scalar tensor", 1: "a vector", 2: "a matrix"}


def check_shape(tensor: Tensor, name: str, layout: str) -> None:
    r"""Raise unless a tensor has the named dimensions.

    Args:
        tensor: The tensor to look at.
        name: What the caller calls it.
        layout: Dimensions separated by spaces: a word for any size, the same wherever it recurs; a number for
            exactly that size; a last `*` for any further dimensions. "N D" is a matrix, "N N" a square one,
            "N 2 *" two views of anything.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If its shape does not fit.

    Example:
        >>> check_shape(torch.zeros(3), "features", "N D")
        Traceback (most recent call last):
        ValueError: Expected `features` of shape (N, D), got (3,); pass a matrix.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"Expected `{name}` to be a torch.Tensor, got {type(tensor).__name__}; use torch.as_tensor."
        )
    words = layout.split()
    is_open = words[-1:] == ["*"]
    sizes = words[:-1] if is_open else words
    fits_order = tensor.ndim >= len(sizes) if is_open else tensor.ndim == len(sizes)
    if fits_order and _sizes_fit(sizes, tensor.shape):
        return
    expected = f"({words[0]},)" if len(words) == 1 else f"({', '.join(words)})"
    advice = "transpose or slice it" if fits_order else f"pass {_order_in_words(len(sizes), is_open)}"
    raise ValueError(f"Expected `{name}` of shape {expected}, got {tuple(tensor.shape)}; {advice}.")


def check_positive(value: float, name: str) -> None:
    """Raise unless a number is positive and finite.

    Args:
        value: The number to look at.
        name: What the caller calls it.

    Raises:
        TypeError: If it is no real number.
        ValueError: If it is zero, negative, infinite or NaN.

    Example:
        >>> check_positive(0.0, "temperature")
        Traceback (most recent call last):
        ValueError: Expected `temperature` > 0, got 0.0; pass a positive finite number.
    """
    if not isinstance(value, Real):
        raise TypeError(
            f"Expected `{name}` to be a number, got {type(value).__name__}; pass a positive finite number."
        )
    if not 0 < value < math.inf:
        raise ValueError(f"Expected `{name}` > 0, got {value}; pass a positive finite number.")


def check_finite(tensor: Tensor, name: str) -> None:
    """Raise when a tensor holds NaN or infinite values. Waits for the device.

    Args:
        tensor: The tensor to look at.
        name: What the caller calls it.

    Raises:
        ValueError: If a value is NaN or infinite.

    Example:
        >>> check_finite(torch.tensor([1.0, float("nan")]), "features")
        Traceback (most recent call last):
        ValueError: Expected finite `features`, got 1 of 2 values NaN or infinite; check what made them.
    """
    num_bad = tensor.numel() - int(torch.isfinite(tensor).sum())
    if num_bad:
        raise ValueError(
            f"Expected finite `{name}`, got {num_bad} of {tensor.numel()} values NaN or infinite; "
            "check what made them."
        )


def check_targets(targets: Tensor, num_rows: int, num_classes: int) -> None:
    """Raise unless there is one class index for each row. Waits for the device.

    Args:
        targets: Labels, shape (N,), integers in 0..C-1.
        num_rows: Number of rows N that they belong to.
        num_classes: Number of classes C.

    Raises:
        TypeError: If there are no labels, or they are no integers.
        ValueError: If their number is not N, or one lies outside 0..C-1.

    Example:
        >>> check_targets(torch.tensor([0, -1]), 2, 10)
        Traceback (most recent call last):
        ValueError: Expected `targets` in 0..9, got -1 to 0; drop unlabelled rows or raise `num_classes`.
    """
    if not isinstance(targets, Tensor):
        raise TypeError(
            f"Expected `targets` to be a tensor of class indices, got {type(targets).__name__}; pass labels."
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(f"Expected `targets` of an integer dtype, got {targets.dtype}; pass class indices.")
    check_shape(targets, "targets", str(num_rows))
    if targets.numel() == 0:
        return
    lowest, highest = (int(value) for value in torch.aminmax(targets))
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"Expected `targets` in 0..{num_classes - 1}, got {lowest} to {highest}; "
            "drop unlabelled rows or raise `num_classes`."
        )


def check_two_classes(class_count: Tensor) -> None:
    """Raise unless samples of at least two classes were counted. Waits for the device.

    Args:
        class_count: Number of samples of each class, shape (C,).

    Raises:
        ValueError: If there are no samples, or all are of one class.
    """
    present = class_count.nonzero().flatten().tolist()
    if len(present) < 2:
        found = f"only class {present[0]}" if present else "no samples"
        raise ValueError(
            f"Expected samples of at least two classes, got {found}; pass more samples, or shuffle them."
        )


def _sizes_fit(words: list[str], shape: Sequence[int]) -> bool:
    expected: dict[str, int] = {}
    return all(
        size == (int(word) if word.isdigit() else expected.setdefault(word, size))
        for word, size in zip(words, shape, strict=False)
    )


def _order_in_words(num_dimensions: int, is_open: bool) -> str:
    if is_open:
        return f"a tensor of at least {num_dimensions} dimensions"
    return _ORDERS.get(num_dimensions, f"a tensor of {num_dimensions} dimensions")
