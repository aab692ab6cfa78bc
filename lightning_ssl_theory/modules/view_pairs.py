"""A loss on two views, averaged over the pairs that a method takes of A views."""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.data.batch import read_known_labels


def unordered_pairs(
    embeddings: Sequence[Tensor], full_size: Container[int] | None = None
) -> list[tuple[Tensor, Tensor]]:
    """The pairs (z_a, z_b), a < b, of a loss that treats both views alike.

    Args:
        embeddings: A >= 2 views, (N, E) each.
        full_size: Indices of the views of which each pair has one at least; all by default.

    Returns:
        A (A - 1) / 2 pairs, or L (L - 1) / 2 + L (A - L) with L views of full size.

    Example:
        >>> unordered_pairs(["large", "small", "smaller"], [0])
        [('large', 'small'), ('large', 'smaller')]
    """
    pairs = combinations(range(len(embeddings)), 2)
    return [
        (embeddings[a], embeddings[b])
        for a, b in pairs
        if full_size is None or a in full_size or b in full_size
    ]


def pairs_with_targets(
    predictions: Mapping[int, Tensor], targets: Mapping[int, Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """The pairs (p_a, t_b), a != b, of a loss that compares a view with what another network makes of another view.

    Args:
        predictions: Of some views by their index, (N, E) each.
        targets: Of some views by their index, (N, E) each.

    Returns:
        The pairs, target by target within each prediction.
    """
    return [(p, t) for a, p in predictions.items() for b, t in targets.items() if a != b]


def full_size_views(views: Sequence[Any]) -> list[int]:
    r"""The views that others are compared with: with multi-crop the large ones, of which the small ones are parts.

    Args:
        views: A views, tensors (N, \*input), or dictionaries of tensors.

    Returns:
        Indices of the views with the most numbers a sample; of dictionaries all indices, since the lengths of padded
        texts say nothing.

    Example:
        >>> full_size_views([torch.zeros(4, 3, 32, 32), torch.zeros(4, 3, 16, 16), torch.zeros(4, 3, 32, 32)])
        [0, 2]
    """
    sizes = [view.shape[1:].numel() if isinstance(view, Tensor) else 0 for view in views]
    return [index for index, size in enumerate(sizes) if size == max(sizes)]


def of_every_view(
    network: Callable[[Any], Tensor], views: Sequence[Any], chosen: Iterable[int] | None = None
) -> dict[int, Tensor]:
    r"""What a network makes of views, each in a forward pass of its own.

    Args:
        network: Takes a view.
        views: All A views, tensors (N, \*input), or dictionaries of tensors.
        chosen: Indices of the views that are wanted; all by default.

    Returns:
        A tensor for each, by index.

    Raises:
        InputError: If views differ in size, and the network refuses one.
        AssertionError: What a network raises where views do not differ in size.
        RuntimeError: See above.
        ValueError: See above.
    """
    sizes = {tuple(view.shape[1:]) for view in views if isinstance(view, Tensor)}
    outputs: dict[int, Tensor] = {}
    for index in range(len(views)) if chosen is None else chosen:
        try:
            outputs[index] = network(views[index])
        except (RuntimeError, ValueError, AssertionError) as error:
            if isinstance(error, torch.OutOfMemoryError) or len(sizes) < 2:
                raise
            raise InputError(
                f"Expected a network that takes views of the sizes {sorted(sizes)}, found one that refuses "
                f"{tuple(views[index].shape[1:])}: {type(error).__name__}: {error}; make views of one size, or take a "
                "network that averages over positions."
            ) from error
    return outputs


def mean_parts(loss: Any, pairs: Iterable[tuple[Tensor, Tensor]], *along: Tensor) -> dict[str, Tensor]:
    """The parts of a loss as means over pairs of views.

    Args:
        loss: Module `loss(z1, z2, *along) -> scalar`; where it has `parts(z1, z2, *along)`, these sum to the loss.
        pairs: Two views each, (N, E).
        *along: What the loss takes beside every pair.

    Returns:
        Scalars by name, which sum to the mean loss; `{"loss": …}` for a loss without parts.
    """
    values: dict[str, list[Tensor]] = defaultdict(list)
    for pair in pairs:
        parts = loss.parts(*pair, *along) if hasattr(loss, "parts") else {"loss": loss(*pair, *along)}
        for name, value in parts.items():
            values[name].append(value)
    return {name: torch.stack(value).mean() for name, value in values.items()}


def labels_along(loss: Any, batch: Any) -> tuple[Tensor, ...]:
    """The class labels of a batch, for a loss that says `takes_labels = True`; nothing for others.

    Args:
        loss: Module.
        batch: A batch in any format of :mod:`lightning_ssl_theory.data.batch`.

    Returns:
        Labels (N,), -1 where a sample has none, or an empty tuple.

    Raises:
        InputError: If the loss takes labels and the batch has none.
    """
    return (read_known_labels(batch),) if getattr(loss, "takes_labels", False) else ()
