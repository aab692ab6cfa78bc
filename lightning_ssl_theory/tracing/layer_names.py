"""Layers chosen by their dotted path, by a pattern or by their type, with near names when one is unknown."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from lightning_ssl_theory.tracing.layer_kinds import DENSE, SUPPORTED

LayerChoice = str | type[nn.Module]
"""A dotted path, a pattern such as "backbone.layer4.*.conv?", or a type such as nn.Conv2d."""


def find_module(model: nn.Module, name: str) -> nn.Module:
    """The submodule with a dotted path.

    Args:
        model: The module to look in.
        name: A path as in `model.named_modules()`; `""` is the model itself.

    Returns:
        The submodule.

    Raises:
        ValueError: If there is none; the sentence lists the nearest names.
    """
    return _find(model, dict(model.named_modules()), name)


def resolve_layers(model: nn.Module, layers: Sequence[LayerChoice] | LayerChoice | None) -> list[str]:
    """The paths of the layers that a covariance operator is asked for.

    Args:
        model: The module to look in.
        layers: Dotted paths, patterns and types, one or several; `None` for every Linear, Conv1d and Conv2d with a
            weight of its own. Patterns and types choose among the layers that have a covariance operator.

    Returns:
        The paths, each once, in the order asked for and within it in the order of `model.named_modules()`.

    Raises:
        ValueError: If a path is unknown, its layer is of a type without covariance operator or without a weight of
            its own, or a pattern or type chooses nothing.
    """
    modules = dict(model.named_modules())
    owners: dict[int, list[str]] = {}
    for name, module in modules.items():
        for parameter in module._parameters.values():
            owners.setdefault(id(parameter), []).append(name)
    candidates = {name: module for name, module in modules.items() if _refusal(name, module, owners) is None}
    if layers is None:
        return [name for name, module in candidates.items() if isinstance(module, DENSE)]
    found: dict[str, None] = {}
    for choice in [layers] if isinstance(layers, str | type) else layers:
        if isinstance(choice, str) and not set("*?[") & set(choice):
            refusal = _refusal(choice, _find(model, modules, choice), owners)
            if refusal is not None:
                raise ValueError(refusal)
            found[choice] = None
        else:
            found |= dict.fromkeys(_matching(model, choice, candidates))
    return list(found)


def _find(model: nn.Module, modules: dict[str, nn.Module], name: str) -> nn.Module:
    if name not in modules:
        near = difflib.get_close_matches(name, modules, n=3, cutoff=0.0)
        raise ValueError(
            f"Expected the path of a layer of {type(model).__name__}, got {name!r}; "
            f"the nearest are {', '.join(map(repr, near))}."
        )
    return modules[name]


def _matching(model: nn.Module, choice: LayerChoice, candidates: dict[str, nn.Module]) -> list[str]:
    if isinstance(choice, str):
        found = [name for name in candidates if fnmatchcase(name, choice)]
        wanted = f"the pattern {choice!r}"
    else:
        found = [name for name, module in candidates.items() if isinstance(module, choice)]
        wanted = f"the type {choice.__name__}"
    if not found:
        names = ", ".join(map(repr, list(candidates)[:5])) or "none"
        raise ValueError(
            f"Expected {wanted} to choose a layer of {type(model).__name__}, it chooses none; "
            f"layers with a covariance operator are, among others, {names}."
        )
    return found


def _refusal(name: str, module: nn.Module, owners: dict[int, list[str]]) -> str | None:
    # Why a layer has no covariance operator.
    if not isinstance(module, SUPPORTED):
        return (
            f"Expected layer {name!r} to be a Linear, Conv1d, Conv2d or normalisation layer, got "
            f"{type(module).__name__}; name a layer with such a weight."
        )
    weight = module._parameters.get("weight")
    if weight is None:
        return (
            f"Expected layer {name!r} to hold its weight as a parameter, found none or a computed one; "
            "leave layers without one, or with parametrizations, out of `layers`."
        )
    if hasattr(weight, "device_mesh") or (isinstance(module, nn.Linear) and weight.ndim != 2):
        return (
            f"Expected layer {name!r} to hold its whole weight, found a part of it of shape {tuple(weight.shape)}; "
            "use a strategy that does not shard parameters, or leave the layer out of `layers`."
        )
    sharing = [owner for owner in owners[id(weight)] if owner != name]
    if sharing:
        return (
            f"Expected layer {name!r} to have its weight for itself, it shares it with {sharing[0]!r}; "
            "leave both out of `layers`."
        )
    return None
