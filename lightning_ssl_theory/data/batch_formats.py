"""Which part of a batch is its views and which its labels; `lightning_ssl_theory.data.batch` lists the formats.

Three rules decide where a format does not say it:

1. two or more floating tensors of one shape and dtype are views, so that (image, mask) is not a pair of them;
2. a list whose length equals that of the labels holds samples, unless its tensors have a row for each label; any
   other list holds views;
3. a floating tensor (N, A, C, H, W) with C = 1 or 3 holds A views; one called "views" holds them along its second
   dimension whatever its shape.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "x", "data", "jpg", "png")
LABEL_KEYS = ("label", "labels", "target", "targets", "y", "cls", "class")
FORMATS = (
    '(views, labels), (x1, x2, labels), (images, labels), {"views": ..., "label": ...} '
    'or {"image": ..., "label": ...}'
)
_TEXT_KEY = "input_ids"  # beside it, pixels are one of several inputs


def split(batch: Any) -> tuple[list[Any], Any]:
    """The views of a batch and whatever stands where its labels stand.

    Args:
        batch: Any batch.

    Returns:
        A >= 1 tensors or dictionaries of tensors, and the labels as they are, `None` without any.

    Raises:
        InputError: The format is unknown, or a list holds samples of different shapes.
    """
    if isinstance(batch, Mapping):
        views, labels = _split_mapping(batch)
    elif isinstance(batch, Tensor):
        views, labels = _views_of(batch), None
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        views, labels = _split_sequence(batch)
    else:
        views, labels = [], None
    if not views:
        raise InputError(
            f"Expected a batch {FORMATS}, got {described(batch)}; say by `read_batch=` what is what, "
            "or see lightning_ssl_theory.data.batch."
        )
    return views, labels


def clean_image(batch: Mapping[Any, Any]) -> Tensor | None:
    """The images of a dictionary under one of their usual keys, where they are its only input."""
    image = None if _TEXT_KEY in batch else first_of(batch, IMAGE_KEYS)
    return image if isinstance(image, Tensor) else None


def first_of(mapping: Mapping[Any, Any], keys: Sequence[str]) -> Any:
    """The value of the first key that a dictionary has, or `None`."""
    return next((mapping[key] for key in keys if key in mapping), None)


def num_rows(view: Any) -> int:
    """Number of samples of a view."""
    return len(next(iter(view.values()))) if isinstance(view, Mapping) else len(view)


def described(value: Any, depth: int = 2) -> str:
    """A value in few words: types, keys and shapes."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dictionary with keys {sorted(map(str, value))}"
    if isinstance(value, list | tuple) and depth > 0:
        inner = ", ".join(described(element, depth - 1) for element in value[:4])
        return f"a {type(value).__name__} of {len(value)} ({inner})"
    return type(value).__name__


def _split_mapping(batch: Mapping[Any, Any]) -> tuple[list[Any], Any]:
    labels = first_of(batch, LABEL_KEYS)
    views = batch.get("views")
    if isinstance(views, Tensor):
        return list(views.unbind(1)) if views.ndim > 2 else _views_of(views), labels
    if views is None and _TEXT_KEY not in batch:
        views = first_of(batch, IMAGE_KEYS)
    if isinstance(views, Mapping):
        views = list(views.values())
    if labels is None and isinstance(views, Sequence) and views and isinstance(views[0], Mapping):
        labels = first_of(views[0], LABEL_KEYS)
    return _views_of(views, labels) or _named_views(batch) or _views_of([_inputs(batch)]), labels


def _split_sequence(batch: Sequence[Any]) -> tuple[list[Any], Any]:
    if len(batch) == 1 and isinstance(batch[0], Mapping):
        return _split_mapping(batch[0])  # a loader that gives one dictionary a device
    if batch and all(isinstance(element, Mapping) for element in batch):
        return _views_of(batch), first_of(batch[0], LABEL_KEYS)
    for start, element in enumerate(batch):
        rest = batch[start + 1 :]
        if isinstance(element, str):
            return [], None  # an item, not a batch
        if isinstance(element, Tensor):
            if element.ndim == 1 and rest and not _is_flat(rest[0]):
                continue  # ids before what they name
            alike = _alike(batch[start:])
            if len(alike) > 1:
                return alike, _first(batch[start + len(alike) :])
            return _views_of(element), _first(rest)
        if isinstance(element, Mapping):
            inputs = _inputs(element)
            is_several = isinstance(inputs, Mapping) and clean_image(element) is not None
            views = [inputs] if is_several else _split_mapping(element)[0] if element else []
        else:
            views = _views_of(element, _first(rest))
        if views:
            return views, _first(rest)
    return [], None


def _first(values: Sequence[Any]) -> Any:
    return values[0] if values else None


def _is_flat(value: Any) -> bool:
    # labels, names or numbers, not inputs
    if isinstance(value, Tensor):
        return value.ndim < 2
    return not isinstance(value, Mapping) and not _views_of(value)


# The leading tensors that are views of the same samples: floating, of one shape and dtype.
def _alike(values: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        is_view = isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1
        if not is_view or (found and (value.shape, value.dtype) != (found[0].shape, found[0].dtype)):
            break
        found.append(value)
    return found


# `value` as a list of views; empty where it is none.
def _views_of(value: Any, labels: Any = None) -> list[Any]:
    if isinstance(value, Tensor):
        is_stacked = value.ndim == 5 and value.is_floating_point() and value.shape[2] in (1, 3)
        return list(value.unbind(1)) if is_stacked else [value] if value.ndim > 0 else []
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return []
    found = [_inputs(view) if isinstance(view, Mapping) else view for view in value]
    tensors = [view for view in found if isinstance(view, Tensor) and view.ndim > 0]
    if len(tensors) == len(found) and _are_samples(tensors, labels):
        return [_stacked(tensors)]
    is_view = [len(view) > 0 if isinstance(view, Mapping) else isinstance(view, Tensor) for view in found]
    return found if all(is_view) and all(getattr(view, "ndim", 1) > 0 for view in found) else []


def _are_samples(values: Sequence[Tensor], labels: Any) -> bool:
    if not isinstance(labels, Tensor | Sequence) or getattr(labels, "ndim", 1) == 0:
        return False
    if len(labels) != len(values):
        return False
    # where a tensor also has a row for each label, an image (C, H, W) or a vector is still a sample
    return all(value.ndim in (1, 3) for value in values) or any(len(v) != len(labels) for v in values)


def _stacked(samples: Sequence[Tensor]) -> Tensor:
    shapes = sorted({tuple(sample.shape) for sample in samples})
    if len(shapes) > 1:
        raise InputError(
            f"Expected samples of one shape in a list with a label for each, got {shapes}; "
            "resize them, or make one tensor of them by `read_batch=`."
        )
    return torch.stack(list(samples))


# Views under keys of their own: numbered, such as x1 and x2, or floating tensors of one shape and dtype.
def _named_views(batch: Mapping[Any, Any]) -> list[Any]:
    by_stem: dict[str, dict[int, Any]] = {}
    for key, value in batch.items():
        match = re.fullmatch(r"(.*?)[ _-]?(\d+)", str(key))
        is_input = isinstance(value, Mapping) or (isinstance(value, Tensor) and value.ndim > 1)
        if match and is_input:
            by_stem.setdefault(match[1], {})[int(match[2])] = value
    numbered = max(by_stem.values(), key=len, default={})
    if len(numbered) > 1:
        return _views_of([numbered[number] for number in sorted(numbered)])
    values = [value for key, value in batch.items() if key not in LABEL_KEYS]
    inputs = [value for value in values if isinstance(value, Mapping)]
    if len(inputs) > 1:
        return _views_of(inputs)
    tensors = [value for value in values if isinstance(value, Tensor) and value.ndim > 1]
    views = _alike(tensors)
    return views if len(views) > 1 and len(views) == len(tensors) else []


# What of a dictionary enters a network: an image that is alone in it, or all tensors beside the labels; empty where
# there is none.
def _inputs(mapping: Mapping[Any, Any]) -> Any:
    inputs = {
        key: value
        for key, value in mapping.items()
        if isinstance(value, Tensor) and value.ndim > 1 and key not in LABEL_KEYS
    }
    image = clean_image(mapping)
    return image if image is not None and len(inputs) < 2 else inputs
