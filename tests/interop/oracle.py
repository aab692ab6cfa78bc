r"""The plug-in operator of one weight from per-sample Jacobians by plain autograd; shares no code with the library.

.. math:: OP = \frac1N \sum_i (\bar K_i - m)(\bar K_i - m)^T, \qquad K^T = d f / d \mathrm{vec}(W)

for one view, \bar K_i its mean over the views of sample i and m the mean of those.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Weight(NamedTuple):
    """A parameter, and which of its rows are the weight."""

    parameter: Tensor
    rows: slice


class Expected(NamedTuple):
    """tr OP and w^T OP w / ||w||^2, 0 where w is."""

    trace: float
    growth_rate: float


def held(make: Callable[[], nn.Module], call: Callable[[nn.Module], Any]) -> nn.Module:
    """A float64 module in evaluation mode; BatchNorms in training mode keep the statistics of that call's batch."""
    model, measured = make().double(), make().double()
    for module in model.modules():
        if hasattr(module, "use_reentrant"):
            module.use_reentrant = False  # the old kind works with `backward` only; both compute the same
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    measured.eval()
    counts: dict[str, int] = {}
    for name, norm in measured.named_modules():
        if isinstance(norm, _BatchNorm) and modes[name]:
            norm.momentum = 1.0
            norm.train().register_forward_pre_hook(partial(_count, counts, name))
    with torch.no_grad():
        call(measured)  # on its own, since a forward pass may write to parameters
    for name, count in counts.items():
        norm, source = model.get_submodule(name), measured.get_submodule(name)
        norm.running_mean = source.running_mean
        norm.running_var = source.running_var * ((count - 1) / count)  # running variances are unbiased
    return model


def _count(counts: dict[str, int], name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert name not in counts, "The oracle holds one set of statistics for each BatchNorm."
    counts[name] = inputs[0].numel() // inputs[0].shape[1]


def weight_of(module: nn.Module, name: str) -> Weight:
    """The weight that a layer's path names; an attention layer's joint weight holds those of q, k and v."""
    path, _, last = name.rpartition(".")
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for key in (f"{name}.weight", name, f"{name}_weight"):
        if key in parameters:
            return Weight(parameters[key].requires_grad_(), slice(None))
    joint = parameters[f"{path}.in_proj_weight"]
    size, number = len(joint) // 3, ("q_proj", "k_proj", "v_proj").index(last)
    return Weight(joint.requires_grad_(), slice(number * size, (number + 1) * size))


def jacobians(outputs: Tensor, weights: Sequence[Weight]) -> list[Tensor]:
    """For each weight d outputs / d weight, (rows, n_L, P), a row and an output at a time."""
    parameters = [weight.parameter for weight in weights]
    gradients = [
        torch.autograd.grad(output, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        for output in outputs.flatten()
    ]
    return [
        torch.stack([found[weight.rows].flatten() for found in column]).unflatten(0, outputs.shape)
        for weight, column in zip(weights, zip(*gradients, strict=True), strict=True)
    ]


def expected(jacobian: Tensor, weight: Weight, num_views: int) -> Expected:
    """Trace and growth rate from Jacobians of the views of every sample in turn, (N A, n_L, P)."""
    connections = jacobian.unflatten(0, (-1, num_views)).mean(1)
    centred = connections - connections.mean(0)
    values = weight.parameter.detach()[weight.rows].flatten()
    along = centred @ values
    num_samples = len(connections)
    return Expected(
        float(centred.square().sum() / num_samples),
        float(along.square().sum() / num_samples / values.square().sum().clamp(min=1e-300)),
    )
