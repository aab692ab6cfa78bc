"""Every sentence of the checks, and what passes them."""

import warnings
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from lightning_ssl_theory.checks import (
    InputError,
    check_callable,
    check_device,
    check_dtype,
    check_finite,
    check_flag,
    check_instance,
    check_integer,
    check_names,
    check_number,
    check_positive,
    check_sequence,
    check_shape,
    check_targets,
    check_tree,
    check_two_classes,
    check_word,
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


REFUSED = [
    (lambda: check_shape(torch.zeros(2, 2, dtype=torch.complex64), "x", "N D"), "`x` of real numbers, got"),
    (
        lambda: check_shape(torch.zeros(0, 2), "x", "N+ D"),
        r"`x` of shape \(N, D\) with N >= 1, got \(0, 2\); pass",
    ),
    (
        lambda: check_shape(torch.zeros(2, 3, 4), "x", "* 4 D"),
        r"`x` of shape \(\*, 4, D\), got \(2, 3, 4\); transpose",
    ),
    (lambda: check_integer(1.5, "n"), "Expected `n` to be an integer, got 1.5; pass a whole number"),
    (lambda: check_integer(True, "n"), "Expected `n` to be an integer, got True"),
    (lambda: check_integer(0, "n", advice="try 3"), "Expected `n` of at least 1, got 0; try 3."),
    (lambda: check_integer(10**30, "n"), "Expected `n` of at most 9223372036854775807, got 10"),
    (lambda: check_number(float("nan"), "p", "[0, 1]"), r"Expected `p` in \[0, 1\], got nan"),
    (lambda: check_number(1.0, "p", "[0, 1)"), r"Expected `p` in \[0, 1\), got 1.0"),
    (lambda: check_number(float("inf"), "p"), "Expected a finite `p`, got inf"),
    (lambda: check_number(-1, "p", "[0, inf)"), "Expected `p` >= 0, got -1"),
    (lambda: check_number(1j, "p"), "Expected `p` to be a number, got 1j"),
    (lambda: check_flag(1, "f"), "Expected `f` to be True or False, got 1; choose one"),
    (
        lambda: check_word("Gram", "w", Literal["gram", "lanczos"]),
        "`w` to be one of gram, lanczos, got 'Gram'",
    ),
    (lambda: check_callable("relu", "f"), "Expected `f` to be a function, got 'relu'; pass a callable"),
    (
        lambda: check_instance(Tensor, "t", Tensor),
        "Expected `t` to be of type Tensor, got the class Tensor; build",
    ),
    (
        lambda: check_dtype(torch.zeros(1), "t", torch.bool),
        "Expected `t` of torch.bool, got torch.float32; convert",
    ),
    (lambda: check_device("moon", "d"), "Expected `d` to be a device, got 'moon'; pass \"cpu\""),
    (lambda: check_sequence("conv1", "l"), "Expected `l` to be a list, got 'conv1'; put it into brackets"),
    (lambda: check_sequence([], "l"), "Expected `l` of at least 1 elements, got 0; pass more"),
    (lambda: check_names([""], "l"), "Expected `l` to be a list of names, got '' in it; use text"),
    (
        lambda: check_tree(60, 2),
        "Expected `depth` of at most 24, got 60; it is the number of levels below the root",
    ),
    (lambda: check_tree(1, 1), "Expected `num_children` of at least 2, got 1; pass 2 for a binary tree"),
]


@pytest.mark.parametrize(("check", "sentence"), REFUSED)
def test_everything_else_is_refused_as_one_class_of_error(check: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as error:
        check()
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, TypeError)


def test_none_passes_where_it_may() -> None:
    check_integer(None, "n", or_none=True)
    check_number(None, "p", or_none=True)
    check_callable(None, "f", or_none=True)
    check_instance(None, "t", Tensor, or_none=True)
    check_tree(24, 2)


def test_a_tensor_of_a_graph_is_looked_at_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_finite(torch.ones(2, requires_grad=True), "features")
