"""A few labelled samples of every class, as in "10 labels a class"."""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_instance, check_integer, check_shape, check_targets


def labels_per_class(targets: Tensor, num_labels: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Indices of k samples of every class that occurs, drawn without replacement.

    Drawn on the CPU: the same labels and generator state give the same indices on every rank and device. With
    several ranks, pass the labels of all ranks together.

    Args:
        targets: Class of each sample, shape (N,), integers.
        num_labels: Number of samples k >= 1 of each class.
        generator: CPU generator of the draw; None for torch's own.

    Returns:
        Ascending indices, shape (k P,) for P classes, int64, on the CPU. O(N P) time.

    Raises:
        InputError: If a class has fewer than k samples.

    Example:
        >>> y = torch.tensor([1, 1, 0, 1, 0, 0])
        >>> chosen = labels_per_class(y, 2, generator=torch.Generator().manual_seed(0))
        >>> y[chosen].bincount().tolist()
        [2, 2]
    """
    check_shape(targets, "targets", "N")
    check_targets(targets, len(targets), None)
    check_integer(num_labels, "num_labels", advice="pass the labels for each class")
    check_instance(generator, "generator", torch.Generator, or_none=True)
    labels = targets.detach().cpu()
    classes, counts = labels.unique(return_counts=True)
    if (counts < num_labels).any():
        rarest = counts.argmin()
        raise InputError(
            f"Expected at least {num_labels} samples of every class, got {int(counts[rarest])} of class "
            f"{int(classes[rarest])}; lower `num_labels` or pass more samples."
        )
    order = torch.randperm(len(labels), generator=generator)
    shuffled = labels[order]
    chosen = [order[shuffled == label][:num_labels] for label in classes]
    return torch.cat(chosen).sort().values if chosen else order
