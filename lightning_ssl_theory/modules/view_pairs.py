"""A loss on two views, averaged over all pairs of A views."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor


def mean_parts(loss: Any, embeddings: Sequence[Tensor]) -> dict[str, Tensor]:
    """The parts of a loss as means over the unordered pairs of views.

    Args:
        loss: Module `loss(z1, z2) -> scalar`; where it has `parts(z1, z2)`, these sum to the loss.
        embeddings: A >= 2 views, (N, E) each.

    Returns:
        Scalars by name, which sum to the mean loss; `{"loss": …}` for a loss without parts.
    """
    values: dict[str, list[Tensor]] = defaultdict(list)
    for z1, z2 in combinations(embeddings, 2):
        parts = loss.parts(z1, z2) if hasattr(loss, "parts") else {"loss": loss(z1, z2)}
        for name, value in parts.items():
            values[name].append(value)
    return {name: torch.stack(value).mean() for name, value in values.items()}
