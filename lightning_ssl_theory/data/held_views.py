"""Views of held-out samples, the clean one first, the same at every pass: what bounds are measured on.

They are made once for all samples, so that neither the number of processes, nor the order, nor torch's global
generator has a say in them; images that do not fit have `MultiViewDataset(clean=...)`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_ssl_theory.checks import check_integer

NUM_VIEWS = 4
"""Views of a sample where no number is given: few enough for A^2 pairs of them."""


def held_views_loader(
    clean: Tensor,
    labels: Tensor,
    view: Callable[[torch.Generator], Tensor],
    *,
    num_views: int,
    batch_size: int,
    seed: int,
) -> DataLoader:
    r"""Loader of views that are made once, for all samples together.

    Args:
        clean: what validation sees, (N, \*).
        labels: (N,).
        view: makes a random view of every sample, (N, \*), from a generator.
        num_views: A >= 2, the clean one among them.
        batch_size: samples of a batch.
        seed: of the draws.

    Returns:
        Loader of batches (views, labels): A tensors of the batch's rows, in a fixed order.

    Raises:
        InputError: `num_views` < 2.
    """
    check_num_views(num_views)
    generator = torch.Generator().manual_seed(seed)
    views = [clean, *(view(generator) for _ in range(num_views - 1))]
    return DataLoader(_HeldViews(views, labels), batch_size=batch_size, collate_fn=_identity)


def check_num_views(num_views: int) -> None:
    """Raise InputError unless there is a view beside the clean sample."""
    check_integer(num_views, "num_views", at_least=2, advice="the clean sample is the first of them")


class _HeldViews(Dataset[Any]):
    def __init__(self, views: Sequence[Tensor], labels: Tensor) -> None:
        self._views, self._labels = views, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitems__(self, indices: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        rows = torch.as_tensor(indices)
        return [view[rows] for view in self._views], self._labels[rows]


# The dataset makes whole batches already.
def _identity(batch: Any) -> Any:
    return batch
