"""One look at one network: nothing of it changes, and what is covered equals per-sample autograd Jacobians."""

import random
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.testing import assert_close

from helpers.dense_operator import jacobians_loop, plugin_loop
from helpers.small_networks import built
from lightning_ssl_theory.operators import covariance_scalars
from lightning_ssl_theory.tracing import layer_features, rehearse

Weight = Callable[[nn.Module], tuple[Tensor, slice]]


def mapped(function: Callable[[Tensor], Tensor], values: Any) -> Any:
    """A function of every tensor of some inputs."""
    if isinstance(values, Tensor):
        return function(values)
    return {key: function(value) for key, value in values.items()}


class Kind(NamedTuple):
    """A network, what it is given, and what is right to say of its layers.

    Attributes:
        build: Makes the network.
        views: (N, A, *input), or a dictionary of such tensors.
        covered: Layers whose numbers are compared, all that are covered by default; of a layer that is not
            `<path>.weight` the parameter's name and the rows of it.
        left_out: What the reason contains for each layer that is left out.
        features: For layers, what makes (N, D) of what a forward hook on the layer sees.
        call: What the network is asked for, by the oracle.
        output: The same for the library.
        is_trained: Whether the network is trained for two steps with and without the look.
    """

    build: Callable[[], nn.Module]
    views: Any
    covered: tuple[str, ...] = ()
    left_out: Mapping[str, str] = {}
    features: Mapping[str, Callable[[Tensor], Tensor]] = {}
    call: Callable[[nn.Module, Any], Tensor] = lambda model, inputs: model(inputs)
    output: Any = None
    weights: Mapping[str, tuple[str, slice]] = {}
    is_trained: bool = True


def check_kind(kind: Kind) -> None:
    """A look at every layer, against the oracles."""
    model, rows = built(kind.build), mapped(lambda value: value.flatten(0, 1), kind.views)
    output = kind.output(model) if callable(kind.output) else kind.output
    twin, before = deepcopy(model), everything(model)
    generator = torch.Generator().manual_seed(0)
    found = covariance_scalars(model, kind.views, num_probes=None, output=output, generator=generator)
    assert_unchanged(before, everything(model))
    left_out = rehearse(model, rows, output=output).left_out
    assert set(left_out) == set(kind.left_out), left_out
    for name, reason in kind.left_out.items():
        assert reason in left_out[name], left_out[name]
    assert set(found) == set(kind.covered)
    held = held_copy(twin, rows, kind.call)
    used = deepcopy(held)
    kind.call(used, mapped(torch.clone, rows))  # a forward that writes to a weight uses what it has written
    for name in kind.covered:
        key, part = kind.weights.get(name, (f"{name}.weight" if name else "weight", slice(None)))
        jacobians = jacobians_loop(held, kind.views, key, kind.call, part)
        dense = plugin_loop(jacobians)
        assert dense.trace() > 1e-9, name
        weight = used.get_parameter(key).detach()[part].reshape(-1)
        growth = weight @ dense @ weight / weight.square().sum().clamp(min=1e-300)
        assert_close(
            found[name].trace, dense.trace(), rtol=1e-7, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert_close(found[name].growth_rate, growth, rtol=1e-6, atol=1e-10)
    check_features(model, twin, rows, kind, output)
    assert_unchanged(before, everything(model))
    deepcopy(model)
    if kind.is_trained:
        assert_unchanged(trained(twin, rows, kind.call), trained(model, rows, kind.call))


def check_features(model: nn.Module, twin: nn.Module, rows: Any, kind: Kind, output: Any) -> None:
    """Features of layers against a hook and an average written by hand."""
    if not kind.features:
        return
    found = layer_features(model, rows, list(kind.features), output=output)
    seen: dict[str, Tensor] = {}
    plain = deepcopy(twin).eval()
    for name in kind.features:
        plain.get_submodule(name).register_forward_hook(
            lambda _, __, value, name=name: seen.update({name: value.detach().clone()})
        )
    kind.call(plain, mapped(torch.clone, rows))
    for name, pool in kind.features.items():
        assert_close(found[name], pool(seen[name]), msg=lambda m, n=name: f"{n}: {m}")


def held_copy(model: nn.Module, rows: Any, call: Callable[[nn.Module, Any], Tensor]) -> nn.Module:
    """The network in evaluation mode; BatchNorm in training mode has the statistics of these rows as running ones."""
    held, inputs = deepcopy(model), {}
    norms = {name: m for name, m in held.named_modules() if isinstance(m, _BatchNorm) and m.training}
    held.eval()
    running = deepcopy(held)
    for name in norms:
        norm = running.get_submodule(name).train()
        norm.register_forward_pre_hook(lambda _, args, name=name: _keep(inputs, name, args[0]))
    if norms:
        with torch.no_grad():
            call(running, mapped(torch.clone, rows))
    for name, norm in norms.items():
        dims = [dim for dim in range(inputs[name].ndim) if dim != 1]
        norm.running_mean.copy_(inputs[name].mean(dims))
        norm.running_var.copy_(inputs[name].var(dims, unbiased=False))
    return held


def _keep(inputs: dict[str, Tensor], name: str, value: Tensor) -> None:
    inputs[name] = value.detach().clone()


def trained(model: nn.Module, rows: Any, call: Callable[[nn.Module, Any], Tensor]) -> dict[str, Tensor]:
    """The network's state after two steps of plain training."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.manual_seed(5)
    for _ in range(2):
        optimizer.zero_grad()
        call(model, mapped(torch.clone, rows)).square().mean().backward()
        optimizer.step()
    return dict(model.state_dict())


def everything(model: nn.Module) -> dict[str, Any]:
    """All that a look might change."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    objects = {name: id(value) for name, value in tensors}
    tensors = [(name, value) for name, value in tensors if not nn.parameter.is_lazy(value)]
    kept = {"_parameters", "_buffers", "_modules"}
    return {
        "objects": objects,
        "versions": {name: value._version for name, value in tensors if not value.is_inference()},
        "tensors": {name: value.detach().clone() for name, value in tensors},
        "gradients": {name: deepcopy(value.grad) for name, value in tensors},
        "requires_grad": {name: value.requires_grad for name, value in tensors},
        "modules": {name: id(value) for name, value in model.named_modules(remove_duplicate=False)},
        "attributes": {
            name: {key: _copied(value) for key, value in vars(module).items() if key not in kept}
            for name, module in model.named_modules()
        },
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.random.get_state()[1].astype("int64")),
        "python": random.getstate(),
        "grad": torch.is_grad_enabled(),
    }


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return {"object": id(value), "value": value.detach().clone()}
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return value if isinstance(value, int | float | str | bool | tuple | None) else id(value)


def assert_unchanged(before: Any, after: Any, path: str = "") -> None:
    """Every part of what `everything` took is equal."""
    if isinstance(before, dict):
        assert before.keys() == after.keys(), path
        for key in before:
            assert_unchanged(before[key], after[key], f"{path}/{key}")
    elif isinstance(before, Tensor):
        assert torch.equal(before, after), path
    else:
        assert before == after, path
