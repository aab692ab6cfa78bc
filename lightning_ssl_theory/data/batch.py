"""Readers of a batch: its views, its labels and its images, in the formats that are in use.

====================================  =============================================
batch                                 who makes it
====================================  =============================================
``(views, labels)``                   this library's data modules
``(views, labels, ids)``              lightly
``(views, labels, latents)``          this library's latent trees
``(ids, views, labels)``              solo-learn
``(x1, x2, labels)``, with ids too    two views beside one another; ``(x1, x2, y1, y2)``
``[view_1, view_2, ...]``             a loader without labels
``(stacked, labels)``                 views stacked, (N, A, C, H, W)
``([image, ...], labels)``            a list of N images with N labels
``(images, labels)``, ``images``      any clean loader
``{"views": views, "label": y}``      dictionaries; each view may be ``{"image": x}``
``{"x1": x1, "x2": x2, "y": y}``      views by name
``{"image": x, "label": y}``          clean images; also ``img``, ``pixel_values``, ``x``, ``data``
``{"image": x, "pretext": z}``        pretext learning; with ``"downstream"`` or a label
``[{"data": x, "label": y}]``         one dictionary a device
``(inputs, labels)``                  inputs a dictionary, as tokenizers make it
``{"input_ids": ..., "labels": y}``   the same with the labels inside
====================================  =============================================

`views` is a list or tuple of tensors (N, *input), one for each view; heights and widths may
differ, N may not. A view may be a dictionary of tensors with N rows each, labels inside included.
Labels are (N,) or (N, 1) integers, or one-hot rows, which sum to 1; integers in a list will do.
`batch_formats` says how views are told from images and masks. What is none of these, the user's
own `read_batch=` makes one of.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_integer
from lightning_ssl_theory.data.batch_formats import (
    clean_image,
    described,
    num_rows,
    split,
)
from lightning_ssl_theory.data.clean_images import SeededImages


def read_views(batch: Any, *, min_views: int = 2) -> list[Any]:
    """The views of a batch, in their order.

    Args:
        batch: a batch in one of the formats of this file.
        min_views: the least number of views that will do, >= 1; a clean batch counts as one view.

    Returns:
        List of A >= `min_views` tensors (N, *input), or dictionaries of tensors, untouched.

    Raises:
        InputError: the format is unknown, or there are too few views, or they differ in the number of samples, or views
            are yet to be made of the images.

    Example:
        >>> import torch
        >>> [view.shape[0] for view in read_views(([torch.zeros(3, 2), torch.ones(3, 2)], torch.arange(3)))]
        [3, 3]
    """
    check_integer(min_views, "min_views")
    if isinstance(batch, SeededImages):
        raise InputError(
            "Expected views in the batch, got the stored images of ImageDataModule(augment_on_device=True); give a "
            "Trainer `datamodule=` and not its loaders, or call its `on_after_batch_transfer(batch, 0)` yourself."
        )
    views, _ = split(batch)
    if len(views) < min_views:
        raise InputError(
            f"Expected at least {min_views} views of every sample in the batch, got {len(views)}; "
            f"pass a loader that makes them, with num_views={min_views} in this library's data modules, "
            "or find them by `read_batch=`."
        )
    counts = [num_rows(view) for view in views]
    if len(set(counts)) > 1:
        raise InputError(
            f"Expected views with the same number of samples, got {counts}; "
            "row i of every view must come from sample i, which `read_batch=` can see to."
        )
    return views


def read_images(batch: Any) -> Any:
    """The images of a batch: the clean ones where it has them, else the first view.

    Args:
        batch: a batch in one of the formats of this file.

    Returns:
        Tensor (N, *input), or a dictionary of tensors, untouched.

    Raises:
        InputError: the format is unknown.

    Example:
        >>> import torch
        >>> read_images((torch.zeros(3, 2), torch.arange(3))).shape
        torch.Size([3, 2])
    """
    image = clean_image(batch) if isinstance(batch, Mapping) else None
    return split(batch)[0][0] if image is None else image


def read_labels(batch: Any) -> Tensor | None:
    """The class labels of a batch, or None.

    Args:
        batch: a batch in one of the formats of this file.

    Returns:
        Tensor (N,) of integers: -1 marks a sample without label. None where the batch has no labels: nothing beside
        the images that gives every sample one class, or every entry is negative (STL-10's unlabelled split).

    Raises:
        InputError: the format is unknown.

    Example:
        >>> import torch
        >>> read_labels((torch.zeros(3, 2), torch.arange(3)))
        tensor([0, 1, 2])
    """
    views, found = split(batch)
    labels = _class_labels(found, num_rows(views[0]))
    return None if labels is None or bool((labels < 0).all()) else labels


def read_known_labels(batch: Any) -> Tensor:
    """The class labels of a batch that must have some; those of its samples may all be unknown.

    Args:
        batch: a batch in one of the formats of this file.

    Returns:
        Tensor (N,) of integers: -1 marks a sample without label.

    Raises:
        InputError: the format is unknown, or the batch has none, or has something else than one class a sample.

    Example:
        >>> import torch
        >>> read_known_labels((torch.zeros(2, 3), torch.tensor([[0.0, 1.0], [1.0, 0.0]])))
        tensor([1, 0])
    """
    views, found = split(batch)
    if found is None:
        raise InputError(
            "Expected labels in the batch, found none; pass batches (images, labels) or "
            '{"image": ..., "label": ...}, or find them by `read_batch=`.'
        )
    labels = _class_labels(found, num_rows(views[0]))
    if labels is None:
        raise InputError(
            f"Expected one class for each of {num_rows(views[0])} samples as labels in the batch, integers or one-hot "
            f"rows, got {_described_labels(found)}; make them so by `read_batch=`."
        )
    return labels


def read_latents(batch: Any) -> Tensor:
    """The latents of a batch: what its samples were made from.

    Args:
        batch: (views, labels, latents), or a dictionary with "latents".

    Returns:
        Tensor (N, K), untouched; those of the first view.

    Raises:
        InputError: the format is unknown, or the batch has none.

    Example:
        >>> import torch
        >>> read_latents((torch.zeros(3, 2), torch.arange(3), torch.ones(3, 7))).shape
        torch.Size([3, 7])
    """
    views, _ = split(batch)
    is_triple = isinstance(batch, Sequence) and len(batch) == 3
    latents = batch.get("latents") if isinstance(batch, Mapping) else batch[2] if is_triple else None
    if not isinstance(latents, Tensor) or latents.ndim != 2 or len(latents) != num_rows(views[0]):
        raise InputError(
            "Expected latents (N, K) in the batch, found none; pass batches (views, labels, latents), "
            "as LatentTreeDataModule makes them, or find them by `read_batch=`."
        )
    return latents


# (N,) integers, or `None` where the labels give a sample not one class.
def _class_labels(found: Any, count: int) -> Tensor | None:
    if isinstance(found, np.ndarray) or _is_list_of_numbers(found):
        found = torch.as_tensor(found)
    if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != count or found.is_complex():
        return None
    labels = found.squeeze(1) if found.shape[1:] == (1,) else found
    if labels.ndim == 2:
        is_one_hot = torch.allclose(
            labels.sum(1).double(), torch.ones((), dtype=torch.float64, device=labels.device)
        )
        return labels.argmax(1) if is_one_hot and bool((labels >= 0).all()) else None
    if labels.ndim != 1 or (labels.is_floating_point() and bool((labels != labels.round()).any())):
        return None
    return labels.long()  # in 8 bits without a sign no label would compare with -1


def _is_list_of_numbers(found: Any) -> bool:
    return isinstance(found, list | tuple) and all(isinstance(label, int | np.integer) for label in found)


def _described_labels(found: Any) -> str:
    if isinstance(found, Tensor) and found.ndim == 2 and bool(((found == 0) | (found == 1)).all()):
        return f"several classes a sample, {described(found)}"
    if isinstance(found, Tensor) and found.is_floating_point():
        return f"{described(found)} of {str(found.dtype).removeprefix('torch.')}"
    return described(found)
