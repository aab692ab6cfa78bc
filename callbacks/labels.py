"""Labels of a batch that must have some."""

from typing import Any

from torch import Tensor

from lightning_ssl_theory.data.batch import read_labels


def read_known_labels(batch: Any) -> Tensor:
    """The labels of a batch.

    Args:
        batch: A batch in one of the formats of `lightning_ssl_theory.data.batch`.

    Returns:
        (N,), integers; -1 marks a sample without label.

    Raises:
        ValueError: If the batch has none.
    """
    labels = read_labels(batch)
    if labels is None:
        raise ValueError(
            'Expected labels in the batch, found none; pass batches (images, labels) or {"image": ..., "label": ...}.'
        )
    return labels
