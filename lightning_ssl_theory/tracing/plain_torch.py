"""Torch without what a look cannot go through: autocast, compiled code, fused attention, recomputation and draws."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
import torch.utils.checkpoint
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_ssl_theory.tracing.inputs import device_of

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def plain_torch(device: torch.device) -> Iterator[None]:
    """Whatever runs inside has derivatives of any order, in the precision of its tensors, and is computed once."""
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_differentiable_attention())
        stack.enter_context(_plain_checkpoints())
        yield


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """A function of a model and its views that computes in their precision: without autocast, backward passes included.

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


@contextmanager
def preserved_random_state(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside from torch (CPU and `device`), NumPy or Python leaves their states as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=_fork_type(device)):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _fork_type(device: torch.device) -> str:
    return "cuda" if device.type == "cpu" else device.type


@contextmanager
def _differentiable_attention() -> Iterator[None]:
    # fused kernels have neither a forward derivative nor a second backward pass
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)


class _KeptActivations:
    """Stands for the checkpoints that work with `backward` only: runs the function and keeps what it computes."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        """What the function returns."""
        return function(*args)


@contextmanager
def _plain_checkpoints() -> Iterator[None]:
    reentrant = torch.utils.checkpoint.CheckpointFunction
    torch.utils.checkpoint.CheckpointFunction = _KeptActivations  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        torch.utils.checkpoint.CheckpointFunction = reentrant  # type: ignore[misc]
