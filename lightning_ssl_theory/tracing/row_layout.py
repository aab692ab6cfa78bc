"""Where samples lie in what a layer saw, found out by changing one of them."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.tracing.inputs import Inputs, device_of, map_inputs, num_rows, rows_of, tensors_of


class RowLayout(NamedTuple):
    """Where samples lie in what a layer saw.

    Attributes:
        axis: The axis along which samples follow one another.
        factor: Entries of that axis for each sample, such as the windows of an image.
    """

    axis: int = 0
    factor: int = 1


def row_layouts(outputs: Tensor, inputs: Tensor, rows: int, feature_axis: int) -> list[RowLayout]:
    """Where samples could lie: rows first, or another axis as long as a multiple of them where features are last."""
    last = 1 if feature_axis == 1 else max(1, outputs.ndim + feature_axis)
    return [
        RowLayout(axis, outputs.shape[axis] // rows)
        for axis in range(last)
        if outputs.shape[axis] % rows == 0
        and outputs.shape[axis]
        and inputs.shape[axis] == outputs.shape[axis]
    ]


def is_confined(change: Tensor, scale: Tensor, layout: RowLayout, row: int) -> bool:
    """Whether what is not zero in a change, beside values of some scale, lies in the entries of one sample."""
    values = change.movedim(layout.axis, 0)
    values = values.reshape(len(values) // layout.factor, -1).abs()
    if not values.numel():
        return True
    largest = values.amax(1)
    tolerance = 100 * torch.finfo(values.dtype).eps * scale.abs().max()
    others = torch.arange(len(largest), device=largest.device) != row
    return not bool((largest[others] > tolerance).any())


def with_one_changed(inputs: Inputs) -> tuple[Any, Any, int]:
    """A few samples with which to find out where samples lie.

    Args:
        inputs: (S, *input), or a dictionary of such tensors.

    Returns:
        At most three rows of the inputs, the same with the last one changed, and the index of that one.

    Raises:
        InputError: If all rows are equal, and of no floating type.
    """
    size = num_rows(inputs)
    if size < 2:
        return inputs, map_inputs(_jittered, inputs), 0
    first, *rest = tensors_of(inputs)
    differs = torch.zeros(size, dtype=torch.bool, device=device_of(inputs))
    for tensor in (first, *rest):
        differs |= (tensor != tensor[:1]).reshape(size, -1).any(1)
    is_floating = any(tensor.is_floating_point() for tensor in (first, *rest))
    if not differs.any() and not is_floating:
        raise InputError(
            f"Expected samples that differ, got {size} equal ones; pass views of different samples."
        )
    last = int(differs.nonzero()[-1]) if differs.any() else size - 1
    rows = sorted({0, last // 2, last})
    few = rows_of(inputs, rows)

    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed[-1] = tensor[0]
        return _jittered(changed, slice(len(rows) - 1, None))

    return few, map_inputs(change, few), len(rows) - 1


def _jittered(tensor: Tensor, rows: slice = slice(None)) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(tensor[rows].shape, generator=generator).to(tensor)
    changed = tensor.clone()
    changed[rows] *= 0.5 + noise
    return changed
