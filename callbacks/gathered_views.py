"""Views of the samples of a look, and what layers make of them: this rank's, and then everyone's in one order."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.distributed import all_gather_rows


class RankViews:
    """What this rank has seen of a look, batch by batch; all of it on the CPU but the features.

    Attributes:
        example: A few rows of the first view, `None` before a batch.
    """

    def __init__(self) -> None:
        self.example: Tensor | None = None
        self._features: dict[str, list[Tensor]] = {}
        self._labels: list[Tensor] = []
        self._inputs: list[Tensor] = []

    def add(self, views: Tensor, labels: Tensor, features: dict[str, Tensor]) -> None:
        r"""Take in a batch: views (n, A, \*), labels (n,), and for each layer features (n A, D)."""
        self.example = views[:2, 0] if self.example is None else self.example
        for name, found in features.items():
            self._features.setdefault(name, []).append(found.unflatten(0, views.shape[:2]).cpu())
        self._labels.append(labels.reshape(-1, 1, 1).cpu())
        self._inputs.append(views.flatten(2).cpu())

    def everyones(self, names: Sequence[str]) -> "EveryonesViews":
        """Features, labels and marks of all ranks, in an order that their number has no part in."""
        marks = _gathered([rows.double().sum(2, keepdim=True) for rows in self._inputs]).squeeze(2)
        if not len(marks):
            raise InputError("Expected at least one batch of views, found none; pass a loader with samples.")
        order = marks[:, 0].argsort(stable=True)
        labels = _gathered(self._labels, torch.int64).flatten()[order]
        features = {name: _gathered(self._features.get(name, []))[order] for name in names}
        known = {name: found for name, found in features.items() if found.shape[2]}
        return EveryonesViews(known, labels, marks[order], order)

    def everyones_inputs(self, order: Tensor) -> Tensor:
        """The views of all ranks, (N, A, P), in that order."""
        return _gathered(self._inputs)[order]

    @property
    def num_inputs(self) -> int:
        """Numbers in all ranks' views together."""
        own = torch.tensor([sum(rows.numel() for rows in self._inputs)])
        return int(all_gather_rows(own).sum())


class EveryonesViews(NamedTuple):
    """What all ranks have seen of a look.

    Attributes:
        features: For each layer (N, A, D).
        labels: (N,), -1 without one.
        marks: What tells views from other views, (N, A).
        order: Where each row was before, (N,).
    """

    features: dict[str, Tensor]
    labels: Tensor
    marks: Tensor
    order: Tensor


def _gathered(parts: list[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    # (n, A, X) of every rank; one without a batch learns A, X and the precision from the others
    is_double = bool(parts) and parts[0].dtype == torch.float64
    own = [*parts[0].shape[1:], int(is_double)] if parts else [0, 0, 0]
    num_views, width, double = all_gather_rows(torch.tensor([own])).amax(0).tolist()
    dtype = dtype or (torch.float64 if double else torch.float32)
    empty = torch.zeros(0, num_views, width, dtype=dtype)
    return all_gather_rows(torch.cat([empty, *(part.to(dtype) for part in parts)]))
