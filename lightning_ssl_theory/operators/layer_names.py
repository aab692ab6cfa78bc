"""Layers named by their dotted path, with near names when one is unknown."""

import difflib
from collections.abc import Sequence

from torch import nn

from lightning_ssl_theory.operators.weight_maps import SUPPORTED


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
    modules = dict(model.named_modules())
    if name not in modules:
        near = difflib.get_close_matches(name, modules, n=3, cutoff=0.0)
        raise ValueError(
            f"Expected the path of a layer of {type(model).__name__}, got {name!r}; "
            f"the nearest are {', '.join(map(repr, near))}."
        )
    return modules[name]


def resolve_layers(model: nn.Module, layers: Sequence[str] | None) -> list[str]:
    """The paths of the layers that a covariance operator is asked for.

    Args:
        model: The module to look in.
        layers: Dotted paths, or `None` for every Linear, Conv1d and Conv2d with a weight of its own.

    Returns:
        The paths, in the order asked for or in the order of `model.named_modules()`.

    Raises:
        ValueError: If a path is unknown or its layer is of a type without covariance operator.
    """
    if layers is None:
        return [
            name
            for name, module in model.named_modules()
            if isinstance(module, SUPPORTED) and "weight" in module._parameters
        ]
    for name in layers:
        module = find_module(model, name)
        if not isinstance(module, SUPPORTED):
            raise ValueError(
                f"Expected layer {name!r} to be a Linear, Conv1d or Conv2d, got {type(module).__name__}; "
                "name a layer with such a weight."
            )
    return list(layers)
