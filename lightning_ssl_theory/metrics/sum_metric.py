"""Metrics whose whole state is sums over samples, so that batches and ranks merge by addition."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric

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

    def _declare_sums(self, **shapes: tuple[int, ...]) -> None:
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def _add_sums(self, sums: dict[str, Tensor]) -> None:
        for name, value in sums.items():
            state = getattr(self, name)
            setattr(self, name, state + value.to(state.device))

    def _apply(self, fn: Callable, exclude_state: Sequence[str] = "") -> nn.Module:
        device = device_with_float64(fn(torch.zeros(1, device=self.device)).device)
        return super()._apply(lambda tensor: tensor.to(device), exclude_state)
