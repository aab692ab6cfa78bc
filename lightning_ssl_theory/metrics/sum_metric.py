"""Metrics whose whole state is sums over samples, so that batches and ranks merge by addition."""

from collections.abc import Callable, Generator, Iterable, Sequence

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

    def exchange(self) -> Generator[Tensor, Tensor, None]:
        """Replace the state by that of all ranks.

        Torchmetrics gathers every state by itself; through `sum_together` many metrics share one buffer. A metric that
        keeps other states than sums, and does not exchange them here, is left to torchmetrics.

        Yields:
            Float64 numbers, as many on every rank, to be summed over the ranks; it is sent the sums.
        """
        if self.sum_names:
            values = [getattr(self, name) for name in self.sum_names]
            total = yield torch.cat([value.reshape(-1) for value in values])
            parts = total.split([value.numel() for value in values])
            for name, value, part in zip(self.sum_names, values, parts, strict=True):
                setattr(self, name, part.reshape(value.shape))
            self.distributed_available_fn = nothing_to_exchange

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
    """Replace the states of some metrics by those of all ranks, each step of all of them in one buffer.

    Args:
        metrics: The same ones in the same order on every rank.
        all_sum: Sum over ranks.
    """
    exchanges = [metric.exchange() for metric in metrics]
    asked = [next(exchange, None) for exchange in exchanges]
    while any(part is not None for part in asked):
        parts = [part.reshape(-1) for part in asked if part is not None]
        sums = iter(all_sum(torch.cat(parts)).split([len(part) for part in parts]))
        asked = [
            None if part is None else _sent(exchange, next(sums).view(part.shape))
            for exchange, part in zip(exchanges, asked, strict=True)
        ]


def _sent(exchange: Generator[Tensor, Tensor, None], total: Tensor) -> Tensor | None:
    try:
        return exchange.send(total)
    except StopIteration:
        return None


def nothing_to_exchange() -> bool:
    """What a metric whose state is that of all ranks tells torchmetrics.

    Returns:
        False: there is nothing to synchronise.
    """
    return False
