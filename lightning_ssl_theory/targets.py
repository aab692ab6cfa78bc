"""Class labels: what they must be, and sums of features over the samples of each class."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lightning_ssl_theory.checks import check_shape


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


def class_sums(features: Tensor, targets: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Number of samples and sum of features of each class.

    Args:
        features: Shape (N, D), floating.
        targets: Class of each row, shape (N,), integers in 0..C-1.
        num_classes: Number of classes C.

    Returns:
        Counts (C,) and sums (C, D), in the dtype and on the device of the features. As a product with the
        one-hot labels, O(N C D) time and O(N C) memory, so that the result is the same on every run.

    Example:
        >>> class_sums(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 1, 1]), 3)
        (tensor([1., 2., 0.]), tensor([[1.],
                [6.],
                [0.]]))
    """
    membership = one_hot(targets.to(features.device, torch.int64), num_classes).to(features.dtype)  # (N, C)
    return membership.sum(0), membership.mT @ features
