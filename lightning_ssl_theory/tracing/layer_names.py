"""Layers chosen by their dotted path, by a pattern or by their type, with near names when one is unknown."""

import difflib
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn
from torch.nn.parameter import is_lazy

from lightning_ssl_theory.checks import InputError, check_instance, check_sequence

LayerChoice = str | type[nn.Module]
"""A dotted path, a pattern such as "backbone.layer4.*.conv?", or a type such as nn.Conv2d or "torch.nn.Conv2d"."""

IN_PROJECTION = "in_proj_weight"
"""The parameter of an attention layer that holds three weights, one below the other."""

ATTENTION_PARTS = ("q_proj", "k_proj", "v_proj")


class WeightPlace(NamedTuple):
    """Where a layer's weight is found.

    Attributes:
        key: Name of the parameter, the first where it has several.
        part: Which third of an attention layer's joint weight; `None` for all of it.
    """

    key: str
    part: int | None = None


def find_module(model: nn.Module, name: str) -> nn.Module:
    """The submodule with a dotted path.

    Args:
        model: The module to look in.
        name: A path as in `model.named_modules()`; `""` is the model itself.

    Returns:
        The submodule.

    Raises:
        InputError: If there is none; the sentence lists the nearest names.
    """
    check_instance(model, "model", nn.Module)
    check_instance(name, "name", str)
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        raise InputError(_unknown(model, name, list(modules)))
    return modules[name]


def weight_places(model: nn.Module, *, with_aliases: bool = False) -> dict[str, WeightPlace]:
    """The layers of a network that hold a weight, by path.

    A layer is the module that holds a parameter called `weight`; a matrix of another name is a layer under its own
    path, and the joint weight of an attention layer is three, `<path>.q_proj`, `<path>.k_proj` and `<path>.v_proj`.

    Args:
        model: The module to look in.
        with_aliases: Whether a parameter that has several paths is listed under each.

    Returns:
        Where each weight is.
    """
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    places: dict[str, WeightPlace] = {}
    for name, parameter in model.named_parameters(remove_duplicate=not with_aliases):
        path, _, last = name.rpartition(".")
        if last != "weight" and (last.endswith("bias") or is_lazy(parameter) or parameter.ndim < 2):
            continue
        key = first[id(parameter)]
        places[path if last == "weight" else name] = WeightPlace(key)
        if last == IN_PROJECTION:
            places |= {
                f"{path}.{part}".lstrip("."): WeightPlace(key, number)
                for number, part in enumerate(ATTENTION_PARTS)
            }
        elif last.removesuffix("_weight") in ATTENTION_PARTS:
            places[name.removesuffix("_weight")] = places.pop(name)
    return places


def is_exact(choice: LayerChoice) -> bool:
    """Whether a choice names one layer by its path, so that a layer which cannot be used is an error."""
    return isinstance(choice, str) and not set("*?[") & set(choice)


def resolve_layers(model: nn.Module, layers: Sequence[LayerChoice] | LayerChoice | None) -> list[str]:
    """The paths of the layers that are asked for, as far as can be told before a pass.

    Args:
        model: The module to look in.
        layers: Dotted paths, patterns, and types or their dotted names, one or several; `None` for every layer with a
            weight.

    Returns:
        The paths, each once, in the order asked for and within it in the order of `model.named_parameters()`.

    Raises:
        InputError: If a path is unknown or its layer has no weight of its own, or a pattern or type chooses nothing.
    """
    check_instance(model, "model", nn.Module)
    places = weight_places(model)
    if layers is None:
        return list(places)
    found: dict[str, None] = {}
    if not isinstance(layers, str | type):
        check_sequence(layers, "layers", at_least=0)
    for given in [layers] if isinstance(layers, str | type) else layers:
        check_instance(given, "layers", (str, type))
        choice = _type_of_name(model, given) or given
        if isinstance(choice, str) and is_exact(choice):
            _check_has_weight(model, choice)
            found[choice] = None
        else:
            found |= dict.fromkeys(_matching(model, choice, list(places)))
    return list(found)


def exact_names(layers: Sequence[LayerChoice] | LayerChoice | None) -> set[str]:
    """The paths among the choices."""
    choices = [] if layers is None else [layers] if isinstance(layers, str | type) else layers
    return {choice for choice in choices if isinstance(choice, str) and is_exact(choice)}


def _check_has_weight(model: nn.Module, name: str) -> None:
    places = weight_places(model, with_aliases=True)
    if name in places:
        return
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        raise InputError(_unknown(model, name, [*modules, *places]))
    raise InputError(
        f"Expected layer {name!r} to hold its weight as a parameter, found none or a computed one in "
        f"{type(modules[name]).__name__}; name a layer inside it, or leave it out of `layers`."
    )


def _unknown(model: nn.Module, name: str, names: list[str]) -> str:
    inner = [found for found in dict.fromkeys(names) if found] or [""]
    near = difflib.get_close_matches(name, inner, n=3, cutoff=0.0)
    return (
        f"Expected the path of a layer of {type(model).__name__}, got {name!r}; "
        f"the nearest {'is' if len(near) == 1 else 'are'} {', '.join(map(repr, near))}."
    )


def _matching(model: nn.Module, choice: LayerChoice, candidates: list[str]) -> list[str]:
    if isinstance(choice, str):
        found = [name for name in candidates if fnmatchcase(name, choice)]
        wanted = f"the pattern {choice!r}"
    else:
        owners = dict(model.named_modules())
        found = [name for name in candidates if isinstance(_owner(owners, name), choice)]
        wanted = f"the type {choice.__name__}"
    if not found:
        names = ", ".join(map(repr, candidates[:5])) or "none"
        raise InputError(
            f"Expected {wanted} to choose a layer of {type(model).__name__}, it chooses none; "
            f"layers with a weight are, among others, {names}."
        )
    return found


# The type that a name stands for, as in a YAML file, if a module of the network is of it; nothing is imported.
def _type_of_name(model: nn.Module, choice: LayerChoice) -> type[nn.Module] | None:
    if not isinstance(choice, str) or "." not in choice or choice in dict(model.named_modules()):
        return None
    package, _, name = choice.rpartition(".")
    found: Any = getattr(sys.modules.get(package), name, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        return None
    return found if any(isinstance(module, found) for module in model.modules()) else None


def _owner(modules: dict[str, nn.Module], name: str) -> nn.Module | None:
    return modules.get(name, modules.get(name.rpartition(".")[0]))


def check_layers(layers: Any, name: str, *, at_least: int = 1, or_none: bool = False) -> None:
    """Raise InputError unless an argument holds enough choices of layers: paths, patterns, types, one or several."""
    if (layers is None and or_none) or isinstance(layers, type) or (isinstance(layers, str) and layers):
        return
    check_sequence(layers, name, at_least=at_least)
    for choice in layers:
        check_instance(choice or None, name, (str, type))
