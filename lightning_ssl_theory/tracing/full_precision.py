"""Functions that compute in the precision of their views, whatever surrounds the call."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

from lightning_ssl_theory.tracing.inputs import device_of

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """A function of a model and its views, run without autocast: backward passes follow it as forward passes do.

    Args:
        function: Takes `(model, views, ...)`.

    Returns:
        The same function.
    """

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        views: Any = args[1] if len(args) > 1 else kwargs["views"]
        with torch.autocast(device_of(views).type, enabled=False):
            return function(*args, **kwargs)

    return wrapped
