"""Readers of the two targets of a batch: the pretext's, which every sample has, and the downstream one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lightning_ssl_theory.checks import InputError, check_integer, check_shape, check_targets
from lightning_ssl_theory.data.batch import read_known_labels
from lightning_ssl_theory.data.batch_formats import described, num_rows, split


def read_pretext(batch: Any) -> Tensor:
    """The pretext targets of a batch.

    Args:
        batch: A dictionary with "pretext".

    Returns:
        Tensor (N, K) of numbers, or (N,) of classes, untouched.

    Raises:
        InputError: If the batch has none.

    Example:
        >>> read_pretext({"image": torch.zeros(3, 2), "pretext": torch.ones(3, 1)}).shape
        torch.Size([3, 1])
    """
    views, _ = split(batch)
    found = batch.get("pretext") if isinstance(batch, Mapping) else None
    if not isinstance(found, Tensor) or found.ndim not in (1, 2) or len(found) != num_rows(views[0]):
        raise InputError(
            f'Expected "pretext" targets (N, K), or classes (N,), in the batch, got {described(batch)}; '
            'pass batches {"image": ..., "pretext": ...}, or find them by `read_batch=`.'
        )
    return found


def read_downstream(batch: Any, num_classes: int | None = None) -> tuple[Tensor, Tensor]:
    """The downstream targets of a batch, and which samples have one.

    Args:
        batch: A dictionary with "downstream" numbers (N, M), rows of NaN without a target; or a batch in one of the
            formats of `data.batch`, with class labels, -1 without one.
        num_classes: C, for labels.

    Returns:
        Targets (N, M), or one-hot rows (N, C); and which rows are known (N,), bool. What the other rows hold means
        nothing.

    Raises:
        InputError: If the batch has none, a row is known in part, a class is out of range, or C is not given.

    Example:
        >>> targets, is_known = read_downstream((torch.zeros(3, 2), torch.tensor([0, -1, 1])), num_classes=2)
        >>> is_known.tolist(), targets[2].tolist()
        ([True, False, True], [0.0, 1.0])
    """
    check_integer(num_classes, "num_classes", or_none=True)
    if isinstance(batch, Mapping) and isinstance(batch.get("downstream"), Tensor):
        return _numbers(batch["downstream"], num_rows(split(batch)[0][0]))
    labels = read_known_labels(batch)
    if num_classes is None:
        raise InputError(
            "Expected `num_classes` for batches with class labels, got None; pass the number of classes."
        )
    is_known = labels >= 0
    known = labels.clamp(min=0)
    check_targets(known, len(known), num_classes, "labels")
    return one_hot(known.long(), num_classes).to(torch.get_default_dtype()), is_known


def _numbers(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    check_shape(values, "downstream", f"{count} M+")
    is_missing = values.isnan()
    is_known = ~is_missing.any(1)
    num_partial = int((is_missing.any(1) & ~is_missing.all(1)).sum())
    if num_partial:
        raise InputError(
            f"Expected every row of `downstream` to be known or NaN as a whole, got {num_partial} that are neither; "
            "fill them, or make them NaN."
        )
    return values, is_known
