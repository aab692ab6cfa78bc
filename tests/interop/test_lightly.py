"""lightly's example modules: every diagnostic attaches, disturbs nothing, and its numbers are right or absent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from . import lightly_modules as modules
from .architecture import images
from .training import Case, check_features, check_finite, check_operators, check_training, watched

pytest.importorskip("lightly", reason="comes with the extra `interop`")


def global_views(batch: Any) -> Any:
    """The batch without its local crops."""
    views, *others = batch
    return (views[:2] if isinstance(views, list) else views, *others)


@dataclass(frozen=True)
class Example:
    """A module, what of its output is looked at, and the argument that says so."""

    module: type[modules.Example]
    read: Callable[[Any, Tensor], Tensor] = lambda module, views: module(views)
    argument: Callable[[Any], dict[str, Any]] = lambda _: {}
    num_crops: int = 0


def prediction(module: Any, views: Tensor) -> Tensor:
    return module(views)[1]


EXAMPLES = [
    Example(modules.SimCLR),
    Example(modules.DCL),
    Example(modules.BarlowTwins),
    Example(modules.VICReg),
    Example(modules.BYOL),
    Example(modules.MoCo),
    Example(modules.SimSiam, prediction, lambda _: {"output": 1}),
    Example(modules.NNCLR, prediction, lambda _: {"output": 1}),
    Example(modules.SwAV, argument=lambda _: {"read_batch": global_views}, num_crops=2),
    Example(modules.NormalizingSwAV),
    Example(modules.DINO, argument=lambda _: {"read_batch": global_views}, num_crops=2),
    Example(
        modules.MAE, lambda module, views: module.backbone(views), lambda module: {"output": module.backbone}
    ),
    Example(modules.Alias),
]


@pytest.mark.parametrize("example", [pytest.param(e, id=e.module.__name__) for e in EXAMPLES])
def test_example(example: Example) -> None:
    if example.module is modules.MAE:
        pytest.importorskip("timm", reason="comes with the extra `interop`")
    generator = torch.Generator().manual_seed(0)
    views = [images(16)(generator) for _ in range(2)] + [images(10)(generator)] * example.num_crops
    case = Case(example.module, views, example.read, example.argument, validates=False)
    seen = watched(case)
    check_training(case, seen)
    check_finite(seen)
    check_operators(case, seen)
    check_features(case, seen)
    assert seen.first("covariance")["weight_share"] >= 0.5
