r"""The plug-in operator of one weight from per-sample Jacobians by plain autograd; shares no code with the library.

.. math:: OP = \frac1N \sum_i (\bar K_i - m)(\bar K_i - m)^T, \qquad K^T = d f / d \mathrm{vec}(W)

for one view, \bar K_i its mean over the views of sample i and m the mean of those.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Expected(NamedTuple):
    """tr OP and w^T OP w / ||w||^2."""

    trace: float
    growth_rate: float


def held(model: nn.Module, call: Callable[[nn.Module], Any]) -> nn.Module:
    """A float64 copy in evaluation mode; BatchNorms in training mode keep the statistics of that call's batch."""
    model = deepcopy(model).double()
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    counts: dict[nn.Module, int] = {}

    def count(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if norm in counts:
            raise AssertionError("The oracle holds one set of statistics for each BatchNorm.")
        counts[norm] = inputs[0].numel() // inputs[0].shape[1]

    model.eval()
    with ExitStack() as stack, torch.no_grad():
        for norm in norms:
            handle = norm.register_forward_pre_hook(count)
            stack.callback(handle.remove)
            norm.train()
            norm.momentum = 1.0
        call(model)
    for norm in norms:
        norm.eval()
        if norm in counts:  # running variances are unbiased, those of the batch are not
            norm.running_var *= (counts[norm] - 1) / counts[norm]
    return model


def jacobians(outputs: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """For each weight d outputs / d weight, (rows, n_L, P), a row and an output at a time."""
    rows = [
        [
            torch.autograd.grad(output, weights, retain_graph=True, allow_unused=True)
            for output in row
        ]
        for row in outputs
    ]
    return [
        torch.stack(
            [
                torch.stack([(torch.zeros_like(weight) if found[k] is None else found[k]).flatten() for found in row])
                for row in rows
            ]
        )
        for k, weight in enumerate(weights)
    ]


def expected(jacobian: Tensor, weight: Tensor, num_views: int) -> Expected:
    """Trace and growth rate from Jacobians of the views of every sample in turn, (N A, n_L, P)."""
    connections = jacobian.unflatten(0, (-1, num_views)).mean(1)
    centred = connections - connections.mean(0)
    along = centred @ weight.flatten()
    num_samples = len(connections)
    return Expected(
        float(centred.square().sum() / num_samples),
        float(along.square().sum() / num_samples / weight.square().sum()),
    )
