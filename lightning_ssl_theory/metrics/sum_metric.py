"""Metrics whose whole state is sums over samples, so that batches and ranks merge by addition."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_ssl_theory.distributed import AllSum
from lightning_ssl_theory.moments import device_with_float64


class SumMetric(Metric):
    """State of float64 sums with `dist_reduce_fx="sum"`.

    The states stay float64 whatever precision the metric, or a module that holds it, is converted to. On a
    device without float64 (mps) they stay in float64 on the CPU, and `compute` returns CPU tensors.

    torchmetrics squeezes what `compute` returns when it has one element: a vector over D = 1 features comes
    back as a scalar. The pure functions keep the shape.
    """

    is_differentiable: bool | None = False
    higher_is_better: bool | None = None
    full_state_update: bool | None = False
    sum_names: tuple[str, ...] = ()
    """The states that are sums; those of a metric that keeps rows are not among them."""

    def _declare_sums(self, **shapes: tuple[int, ...]) -> None:
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.sum_names = (*self.sum_names, *shapes)

    def _add_sums(self, sums: dict[str, Tensor]) -> None:
        for name, value in sums.items():
            state = getattr(self, name)
            setattr(self, name, state + value.to(state.device))

    def _apply(self, fn: Callable, exclude_state: Sequence[str] = "") -> nn.Module:
        device = device_with_float64(fn(torch.zeros(1, device=self.device)).device)
        return super()._apply(lambda tensor: tensor.to(device), exclude_state)


def sum_together(metrics: Iterable[SumMetric], all_sum: AllSum) -> None:
    """Replace the sums of some metrics by those over all ranks, which cross in one buffer.

    torchmetrics gathers every state of every metric by itself. A metric whose states are all sums exchanges nothing
    more when it computes; one that keeps rows is left as it is.

    Args:
        metrics: The same ones in the same order on every rank.
        all_sum: Sum over ranks.
    """
    states = [(metric, name) for metric in metrics for name in metric.sum_names]
    if not states:
        return
    values = [getattr(metric, name) for metric, name in states]
    total = all_sum(torch.cat([value.reshape(-1) for value in values]))
    parts = total.split([value.numel() for value in values])
    for (metric, name), value, part in zip(states, values, parts, strict=True):
        setattr(metric, name, part.reshape(value.shape))
        metric.distributed_available_fn = _nothing_to_exchange


def _nothing_to_exchange() -> bool:
    return False
