"""Whatever finite tensors come: metrics and operators give finite numbers, or a sentence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_leaves

from arguments.valid_calls import VALID, resolve

FUNCTIONS = [
    name
    for name in VALID
    if name.startswith(("metrics.", "operators."))
    and name.count(".") == 1
    and not isinstance(resolve(name), type)
    and any(isinstance(value, Tensor) for value in VALID[name]().values())
]
# their docstrings say which neuron, class or latent without a value is NaN
NAN_STANDS_FOR_NONE = {
    f"metrics.{name}" for name in ("activation_sparsity", "latent_selectivity", "rank_one", "selectivity")
}
SCALES = [0.0, 1e-30, 1e-8, 1.0, 1e4, 1e15]


@st.composite
def tensors(draw: Callable[..., Any], like: Tensor, *, may_differ: bool) -> Tensor:
    """Of the number of dimensions and the kind of another, or sometimes not."""
    sizes = draw(
        st.lists(st.integers(0, 4), min_size=like.ndim, max_size=like.ndim + draw(st.integers(0, 1)))
    )
    shape = tuple(sizes) if may_differ and draw(st.booleans()) else like.shape
    values = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 9))))
    if not like.is_floating_point() and draw(st.integers(0, 4)):
        return (values > 0).to(like.dtype)
    rounded = values.round() if draw(st.booleans()) else values  # with ties, and constant columns
    return rounded * draw(st.sampled_from(SCALES))


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=settings().max_examples // 4)
@given(data=st.data())
def test_finite_numbers_or_a_sentence(name: str, data: st.DataObject) -> None:
    may_differ = (
        "model" not in VALID[name]()
    )  # a network has its own words for inputs that it was not made for
    arguments = {
        key: data.draw(tensors(value, may_differ=may_differ), label=key)
        if isinstance(value, Tensor)
        else value
        for key, value in VALID[name]().items()
    }
    try:
        found = resolve(name)(**arguments)
    except (ValueError, TypeError) as error:
        assert str(error).startswith("Expected")  # noqa: PT017
        return
    if name not in NAN_STANDS_FOR_NONE:
        assert not any(isinstance(leaf, Tensor) and bool(leaf.isnan().any()) for leaf in tree_leaves(found))
