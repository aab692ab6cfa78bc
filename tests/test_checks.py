"""Every sentence of the checks, and what passes them."""

from typing import Any

import pytest
import torch

from lightning_ssl_theory.checks import (
    check_finite,
    check_positive,
    check_shape,
    check_targets,
    check_two_classes,
)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((), ""),
        ((3,), "N"),
        ((0, 4), "N D"),
        ((2, 2, 5), "N 2 *"),
        ((2, 2), "N 2 *"),
        ((3, 1, 2, 2), "N C H W"),
    ],
)
def test_fitting_shape_passes(shape: tuple[int, ...], layout: str) -> None:
    check_shape(torch.zeros(shape), "features", layout)


@pytest.mark.parametrize(
    ("shape", "layout", "sentence"),
    [
        ((3,), "N D", r"Expected `features` of shape \(N, D\), got \(3,\); pass a matrix\."),
        ((3, 1), "N", r"Expected `features` of shape \(N,\), got \(3, 1\); pass a vector\."),
        ((3,), "", r"Expected `features` of shape \(\), got \(3,\); pass a scalar tensor\."),
        (
            (3,),
            "N A *",
            r"Expected `features` of shape \(N, A, \*\), got \(3,\); pass a tensor of at least 2 dim",
        ),
        ((4, 3), "N N", r"Expected `features` of shape \(N, N\), got \(4, 3\); transpose or slice it\."),
        ((3,), "N C H W", r"got \(3,\); pass a tensor of 4 dimensions\."),
        ((4, 3), "N 2", r"Expected `features` of shape \(N, 2\), got \(4, 3\); transpose or slice it\."),
        (
            (4, 3, 5),
            "N 2 *",
            r"Expected `features` of shape \(N, 2, \*\), got \(4, 3, 5\); transpose or slice it\.",
        ),
    ],
)
def test_other_shape_is_rejected(shape: tuple[int, ...], layout: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_shape(torch.zeros(shape), "features", layout)


def test_list_is_no_tensor() -> None:
    features: Any = [1.0]
    with pytest.raises(
        TypeError, match=r"Expected `features` to be a torch\.Tensor, got list; use torch\.as_tensor\."
    ):
        check_shape(features, "features", "N")


@pytest.mark.parametrize("value", [1, 0.005, 1e300])
def test_positive_passes(value: float) -> None:
    check_positive(value, "temperature")


@pytest.mark.parametrize("value", [0, 0.0, -1.0, float("inf"), float("nan")])
def test_non_positive_is_rejected(value: float) -> None:
    with pytest.raises(
        ValueError, match=rf"Expected `temperature` > 0, got {value}; pass a positive finite number\."
    ):
        check_positive(value, "temperature")


def test_text_is_no_number() -> None:
    value: Any = "0.5"
    with pytest.raises(
        TypeError, match=r"Expected `temperature` to be a number, got '0.5'; pass a positive finite"
    ):
        check_positive(value, "temperature")


def test_finite_passes() -> None:
    check_finite(torch.tensor([1, 2]), "features")
    check_finite(torch.zeros(0), "features")


def test_nan_and_infinity_are_counted() -> None:
    features = torch.tensor([[1.0, float("nan")], [float("-inf"), 0.0]])
    with pytest.raises(
        ValueError, match=r"Expected finite `features`, got 2 of 4 values NaN or infinite; check what"
    ):
        check_finite(features, "features")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_what_is_no_class_index_is_rejected(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"`targets` of an integer dtype, got {dtype}; pass class indices"):
        check_targets(torch.zeros(2, dtype=dtype), 2, 3)


def test_missing_outside_and_one_class_are_rejected() -> None:
    with pytest.raises(TypeError, match="a tensor of class indices, got list; pass labels"):
        check_targets([0, 1], 2, 3)
    with pytest.raises(ValueError, match=r"`targets` in 0\.\.2, got -1 to 3; drop unlabelled rows or raise"):
        check_targets(torch.tensor([-1, 3]), 2, 3)
    with pytest.raises(ValueError, match="at least two classes, got only class 2; pass more samples"):
        check_two_classes(torch.tensor([0.0, 0.0, 4.0]))
