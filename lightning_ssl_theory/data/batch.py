"""Readers of a batch: its views, its labels and its images, in the formats that are in use.

====================================  =============================================
batch                                 who makes it
====================================  =============================================
``(views, labels)``                   this library's data modules
``(views, labels, ids)``              lightly
``(views, labels, latents)``          this library's latent trees
``(ids, views, labels)``              solo-learn
``[view_1, view_2, ...]``             a loader without labels
``(images, labels)``, ``images``      any clean loader
``{"views": views, "label": y}``      dictionaries; each view may be ``{"image": x}``
``{"image": x, "label": y}``          dictionaries of clean images
``(inputs, labels)``                  inputs a dictionary, as tokenizers make it
``{"input_ids": ..., "labels": y}``   the same with the labels inside
====================================  =============================================

`views` is a list or tuple of tensors (N, *input), one for each view; heights and widths may
differ, N may not. A view may be a dictionary of tensors with N rows each.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

_IMAGE_KEYS = ("image", "images")
_LABEL_KEYS = ("label", "labels", "target", "targets")
_FORMATS = (
    '(views, labels), (views, labels, ids), (images, labels), {"views": ..., "label": ...} '
    'or {"image": ..., "label": ...}'
)


def read_views(batch: Any, *, min_views: int = 2) -> list[Any]:
    """The views of a batch, in their order.

    Args:
        batch: a batch in one of the formats of this file.
        min_views: the least number of views that will do, >= 1; a clean batch counts as one view.

    Returns:
        List of A >= `min_views` tensors (N, *input), or dictionaries of tensors, untouched.

    Raises:
        TypeError: the format is unknown.
        ValueError: there are too few views, or they differ in the number of samples.

    Example:
        >>> import torch
        >>> [view.shape[0] for view in read_views(([torch.zeros(3, 2), torch.ones(3, 2)], torch.arange(3)))]
        [3, 3]
    """
    views, _ = _split(batch)
    if len(views) < min_views:
        raise ValueError(
            f"Expected at least {min_views} views of every sample in the batch, got {len(views)}; "
            f"pass a loader that makes them, with num_views={min_views} in this library's data modules."
        )
    counts = [_num_rows(view) for view in views]
    if len(set(counts)) > 1:
        raise ValueError(
            f"Expected views with the same number of samples, got {counts}; "
            "row i of every view must come from sample i."
        )
    return views


def read_images(batch: Any) -> Any:
    """The images of a batch: the clean ones where it has them, else the first view.

    Args:
        batch: a batch in one of the formats of this file.

    Returns:
        Tensor (N, *input), or a dictionary of tensors, untouched.

    Raises:
        TypeError: the format is unknown.

    Example:
        >>> import torch
        >>> read_images((torch.zeros(3, 2), torch.arange(3))).shape
        torch.Size([3, 2])
    """
    image = _first(batch, _IMAGE_KEYS) if isinstance(batch, Mapping) else None
    return image if isinstance(image, Tensor) else _split(batch)[0][0]


def read_labels(batch: Any) -> Tensor | None:
    """The class labels of a batch, or None.

    Args:
        batch: a batch in one of the formats of this file.

    Returns:
        Tensor (N,), untouched: -1 marks a sample without label. None where the batch has no labels: no tensor
        of shape (N,) beside the images, or every entry is negative (STL-10's unlabelled split).

    Raises:
        TypeError: the format is unknown.

    Example:
        >>> import torch
        >>> read_labels((torch.zeros(3, 2), torch.arange(3)))
        tensor([0, 1, 2])
    """
    views, labels = _split(batch)
    if not isinstance(labels, Tensor) or labels.shape != (_num_rows(views[0]),) or bool((labels < 0).all()):
        return None
    return labels


def read_known_labels(batch: Any) -> Tensor:
    """The class labels of a batch that must have some.

    Args:
        batch: a batch in one of the formats of this file.

    Returns:
        Tensor (N,), untouched: -1 marks a sample without label.

    Raises:
        TypeError: the format is unknown.
        ValueError: the batch has none.

    Example:
        >>> import torch
        >>> read_known_labels((torch.zeros(2, 2), torch.tensor([1, -1])))
        tensor([ 1, -1])
    """
    labels = read_labels(batch)
    if labels is None:
        raise ValueError(
            'Expected labels in the batch, found none; pass batches (images, labels) or {"image": ..., "label": ...}.'
        )
    return labels


def read_latents(batch: Any) -> Tensor:
    """The latents of a batch: what its samples were made from.

    Args:
        batch: (views, labels, latents), or a dictionary with "latents".

    Returns:
        Tensor (N, K), untouched; those of the first view.

    Raises:
        TypeError: the format is unknown.
        ValueError: the batch has none.

    Example:
        >>> import torch
        >>> read_latents((torch.zeros(3, 2), torch.arange(3), torch.ones(3, 7))).shape
        torch.Size([3, 7])
    """
    views, _ = _split(batch)
    is_triple = isinstance(batch, Sequence) and len(batch) == 3
    latents = batch.get("latents") if isinstance(batch, Mapping) else batch[2] if is_triple else None
    if not isinstance(latents, Tensor) or latents.ndim != 2 or len(latents) != _num_rows(views[0]):
        raise ValueError(
            "Expected latents (N, K) in the batch, found none; pass batches (views, labels, latents), "
            "as LatentTreeDataModule makes them."
        )
    return latents


# The views of a batch (A >= 1) and whatever stands where labels stand.
def _split(batch: Any) -> tuple[list[Any], Any]:
    if isinstance(batch, Mapping):
        views = _as_views(batch.get("views", _first(batch, _IMAGE_KEYS))) or _as_views([_inputs(batch)])
        if views:
            return views, _first(batch, _LABEL_KEYS)
    elif isinstance(batch, Tensor) and batch.ndim > 0:
        return [batch], None
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        return _split_sequence(batch)
    raise TypeError(_unknown(batch))


def _split_sequence(batch: Sequence[Any]) -> tuple[list[Any], Any]:
    for position, element in enumerate(batch):
        if (
            isinstance(element, Mapping)
            and not isinstance(batch[-1], Mapping)
            and (inputs := _inputs(element))
        ):
            return [inputs], batch[position + 1] if position + 1 < len(batch) else None
        if not isinstance(element, Tensor) and (views := _as_views(element)):
            return views, batch[position + 1] if position + 1 < len(batch) else None
    views = _as_views(batch)
    if len(views) > 1 and views[0].ndim > 1 and all(view.shape == views[0].shape for view in views):
        return views, None
    if batch and isinstance(batch[0], Tensor) and batch[0].ndim > 0:
        return [batch[0]], batch[1] if len(batch) > 1 else None
    raise TypeError(_unknown(batch))


# `value` as a list of tensors; empty where it is none.
def _as_views(value: Any) -> list[Any]:
    if isinstance(value, Tensor):
        return [value] if value.ndim > 0 else []
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    found = [_inputs(view) if isinstance(view, Mapping) else view for view in value]
    is_views = all(
        view if isinstance(view, Mapping) else isinstance(view, Tensor) and view.ndim > 0 for view in found
    )
    return found if is_views else []


# What of a dictionary enters a network: its image, or all tensors beside the labels; empty where there is none.
def _inputs(mapping: Mapping[Any, Any]) -> Any:
    image = _first(mapping, _IMAGE_KEYS)
    if isinstance(image, Tensor):
        return image
    return {
        key: value
        for key, value in mapping.items()
        if isinstance(value, Tensor) and value.ndim > 1 and key not in _LABEL_KEYS
    }


def _num_rows(view: Any) -> int:
    return len(next(iter(view.values()))) if isinstance(view, Mapping) else len(view)


def _first(mapping: Mapping[Any, Any], keys: Sequence[str]) -> Any:
    return next((mapping[key] for key in keys if key in mapping), None)


def _unknown(batch: Any) -> str:
    return f"Expected a batch {_FORMATS}, got {_describe(batch)}; see lightning_ssl_theory.data.batch."


# `value` in few words: types, keys and shapes.
def _describe(value: Any, depth: int = 2) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dictionary with keys {sorted(map(str, value))}"
    if isinstance(value, list | tuple) and depth > 0:
        inner = ", ".join(_describe(element, depth - 1) for element in value[:4])
        return f"a {type(value).__name__} of {len(value)} ({inner})"
    return type(value).__name__
