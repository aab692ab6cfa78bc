"""Orthonormal weights under any optimizer: its steps are projected and retracted by hooks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_ssl_theory.checks import check_instance
from lightning_ssl_theory.manifolds.orthonormal_linear import OrthonormalLinear
from lightning_ssl_theory.manifolds.orthonormal_steps import (
    check_constrained,
    orthonormal_step,
    tangent_part,
)

_HOOKS = "_orthonormal_hooks"


def keep_orthonormal(optimizer: Optimizer, module: nn.Module) -> None:
    r"""Let an optimizer keep the weight of every `OrthonormalLinear` of a module orthonormal.

    .. math:: G \to P_W(G), \qquad W \to R(W, \Delta)

    Before each step the gradient G of such a weight is replaced by its tangent part, so that momenta and second moments
    take in nothing else; after it, whatever :math:`\Delta` the optimizer added to W, W moves to
    `orthonormal_step(W, Delta)`. With plain gradient descent these are the steps of `ConstrainedSGD`. Works with any
    optimizer derived from torch's, with a closure (as Lightning calls it, and LBFGS), gradient scaling, accumulation,
    several groups of parameters, and on every rank alike under DDP. A second call replaces the first.

    Weight decay: the step along -W is normal to the constraint and is taken out again, so it changes nothing with SGD
    (with momentum to first order) and with decoupled decay (AdamW); with "polar" it raises the rate of these weights by
    1 / (1 - rate times decay). Adam with `weight_decay` mixes it into its second moments: give such weights a group
    without.

    Departures from plain use of the optimizer: (1) after a step, `weight.grad` is the tangent part; (2) a copy of the
    optimizer, or an unpickled one, does not keep anything: call this again.

    Args:
        optimizer: has the weights among its parameters; those that it does not have are left alone.
        module: with layers `OrthonormalLinear`, or none.

    Raises:
        InputError: If it is no optimizer or no module, or a weight is no matrix of dtype float32 or float64.

    Cost: O(H D min(H, D)) time and a copy of W for each step and layer.

    Example:
        >>> layer = OrthonormalLinear(1, 2)
        >>> optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
        >>> keep_orthonormal(optimizer, layer)
        >>> layer(torch.ones(1, 1)).sum().backward()
        >>> _ = optimizer.step()
        >>> round(float(layer.weight.detach().square().sum()), 4)
        1.0
    """
    check_instance(optimizer, "optimizer", Optimizer)
    check_instance(module, "module", nn.Module)
    for handle in vars(optimizer).pop(_HOOKS, ()):
        handle.remove()
    layers = [layer for layer in module.modules() if isinstance(layer, OrthonormalLinear)]
    if not layers:
        return
    for layer in layers:
        check_constrained(layer.weight)
    keeper = _Keeper(layers)
    handles = [
        optimizer.register_step_pre_hook(keeper.before_step),
        optimizer.register_step_post_hook(keeper.after_step),
    ]
    vars(optimizer)[_HOOKS] = handles


class _Keeper:
    """The two hooks, and where the weights were before the step."""

    def __init__(self, layers: list[OrthonormalLinear]) -> None:
        self._layers = layers
        self._starts: list[tuple[OrthonormalLinear, Tensor]] = []

    def before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        layers = [layer for layer in self._layers if id(layer.weight) in held]
        for layer in layers:
            check_constrained(layer.weight)
        first_with = {id(layer.weight): layer for layer in reversed(layers)}  # a shared weight makes one step
        self._starts = [(layer, layer.weight.detach().clone()) for layer in first_with.values()]
        # a closure computes the gradients within the step
        if len(args) > 1 and callable(args[1]):
            return (args[0], self._projecting(args[1]), *args[2:]), kwargs
        if callable(kwargs.get("closure")):
            return args, kwargs | {"closure": self._projecting(kwargs["closure"])}
        self._project()
        return None

    def after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with torch.no_grad():
            for layer, start in self._starts:
                if layer.weight.grad is not None:
                    layer.weight.copy_(orthonormal_step(start, layer.weight - start, layer.constraint))
                    for sharing in self._layers:
                        if sharing.weight is layer.weight:
                            sharing.note_orthonormal()
        self._starts = []

    def _projecting(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def wrapped() -> Any:
            loss = closure()
            self._project()
            return loss

        return wrapped

    # in place: the gradient may be a view of what is reduced over ranks
    def _project(self) -> None:
        with torch.no_grad():
            for layer, start in self._starts:
                if layer.weight.grad is not None:
                    layer.weight.grad.copy_(tangent_part(start, layer.weight.grad, layer.constraint))
