"""One metric a layer, made when the width of the features is known, equal on all ranks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from lightning_ssl_theory.distributed import all_sum, meet
from lightning_ssl_theory.metrics.sum_metric import SumMetric, sum_together


def let_go(metrics: Iterable[Metric]) -> None:
    """Free what metrics hold that are not used again; by itself only Python's collector of cycles would."""
    for metric in metrics:
        # torchmetrics keeps `update` and `compute`, which hold the metric, as its attributes
        vars(metric).clear()


class FeatureMetrics:
    """Metrics of the features of named layers.

    Args:
        names: The layers.
        build: Makes the metric for a number of features.
    """

    def __init__(self, names: Sequence[str], build: Callable[[int], SumMetric]) -> None:
        self._names, self._build = names, build
        self._metrics: dict[str, SumMetric] = {}

    def reset(self) -> None:
        """Forget everything."""
        let_go(self._metrics.values())
        self._metrics = {}

    def update(self, arguments: dict[str, tuple[Tensor, ...]]) -> None:
        """Add one batch: for each layer its features, (N, D), and whatever else the metric takes."""
        for name, values in arguments.items():
            if name not in self._metrics:
                self._metrics[name] = self._build(values[0].shape[1]).to(values[0].device)
            self._metrics[name].update(*values)

    def compute(self, device: torch.device) -> dict[str, Any]:
        """Each metric over all ranks; a rank without a batch has empty sums, a layer without any is absent."""
        own = [
            (cast(int, self._metrics[name].num_features), 1) if name in self._metrics else (0, 0)
            for name in self._names
        ]
        sums = all_sum(torch.tensor(own)).tolist()  # every rank that has a layer has it of one width
        metrics = {
            name: self._metric(name, widths // num_ranks, device)
            for name, (widths, num_ranks) in zip(self._names, sums, strict=True)
            if num_ranks
        }
        sum_together(metrics.values(), all_sum)
        return {name: metric.compute() for name, metric in metrics.items()}

    def _metric(self, name: str, width: int, device: torch.device) -> SumMetric:
        if name not in self._metrics:
            self._metrics[name] = self._build(width).to(device)
        self._metrics[name].dist_sync_fn = gather_together
        return self._metrics[name]


def gather_together(tensor: Tensor, group: Any = None) -> list[Tensor]:
    """What torchmetrics gathers its states with, where a rank that failed takes the others along."""
    meet()
    return gather_all_tensors(tensor, group)
