"""What a network is given: one tensor, or a dictionary of tensors with a row for each sample."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError

Inputs = Tensor | Mapping[str, Any]
"""A tensor whose rows are samples, or a dictionary of them, such as token ids and an attention mask."""


def map_inputs(function: Callable[[Tensor], Tensor], inputs: Any) -> Any:
    """The inputs with a function applied to each of their tensors; what is no tensor stays."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    return {key: function(value) if isinstance(value, Tensor) else value for key, value in inputs.items()}


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """The tensors of the inputs.

    Returns:
        Them, at least one.

    Raises:
        InputError: If there is none.
    """
    found = [inputs] if isinstance(inputs, Tensor) else []
    if isinstance(inputs, Mapping):
        found = [value for value in inputs.values() if isinstance(value, Tensor)]
    if not found:
        raise InputError(
            f"Expected `inputs` or `views` to be a tensor or a dictionary of tensors, got {type(inputs).__name__}; "
            "pass `read_batch=` that makes one of the batch."
        )
    return found


def num_rows(inputs: Inputs) -> int:
    """Number of samples, the first dimension of every tensor.

    Returns:
        S.

    Raises:
        InputError: If the tensors differ in it.
    """
    sizes = {len(tensor) if tensor.ndim else 0 for tensor in tensors_of(inputs)}
    if len(sizes) > 1:
        raise InputError(
            f"Expected inputs with one row a sample, got {sorted(sizes)} rows; row i of every tensor is sample i."
        )
    return sizes.pop()


def in_precision(inputs: Inputs, dtype: torch.dtype) -> Any:
    """The inputs, floating ones in a dtype; token ids, bytes and masks stay what the user's loop gives."""
    return map_inputs(lambda value: value.to(dtype) if value.is_floating_point() else value, inputs)


def floating_dtype(inputs: Inputs, model: nn.Module) -> torch.dtype:
    """The precision of a pass: that of the floating inputs, else float32, or float64 where the network has it."""
    for tensor in tensors_of(inputs):
        if tensor.is_floating_point():
            return tensor.dtype
    parameters = {parameter.dtype for parameter in model.parameters()}
    return torch.float64 if torch.float64 in parameters else torch.float32


def called_with(function: Callable[..., Any], inputs: Inputs) -> Any:
    """What a function makes of the inputs: a dictionary goes in by keywords where the function has them all."""
    if isinstance(inputs, Tensor) or not _takes_keywords(function, inputs):
        return function(inputs)
    return function(**inputs)


def _takes_keywords(function: Callable[..., Any], inputs: Mapping[str, Any]) -> bool:
    called = function.forward if isinstance(function, nn.Module) else function
    try:
        inspect.signature(called).bind(**inputs)
    except (TypeError, ValueError):
        return False
    return True


def stacked(views: Sequence[Inputs]) -> Any:
    """Views of one shape, (N, *input) each, as (N, A, *input)."""
    if isinstance(views[0], Tensor):
        return torch.stack([tensors_of(view)[0] for view in views], dim=1)
    parts = [dict(view) for view in views if not isinstance(view, Tensor)]
    return {key: torch.stack([part[key] for part in parts], dim=1) for key in parts[0]}


def rows_of(inputs: Inputs, rows: Any) -> Any:
    """Some rows of the inputs."""
    return map_inputs(lambda value: value[rows], inputs)


def device_of(inputs: Inputs) -> torch.device:
    """Where the inputs are."""
    return tensors_of(inputs)[0].device
