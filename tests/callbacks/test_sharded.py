"""Parameters of which a rank holds a part: training goes on as ever, and every diagnostic refuses before it begins."""

import inspect

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.every_diagnostic import every_diagnostic
from helpers.toy_ssl import QUIET, ToySSL, clean_loader, fit, view_loader
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor

from lightning_ssl_theory import callbacks
from lightning_ssl_theory.callbacks import Diagnostic, LatentTreeMonitor
from lightning_ssl_theory.operators import covariance_scalars
from lightning_ssl_theory.tracing import layer_features

NUM_RANKS = 2
REFUSAL = (
    r"^Expected parameters that every rank holds whole, found a part of '[\w.]+'; "
    'use a strategy that does not shard parameters, such as strategy="ddp"\\.$'
)
pytestmark = pytest.mark.ddp


class Sharded(ToySSL):
    """Counts its forward passes; each kind of sharding is put on once."""

    calls, is_sharded = 0, False

    def configure_model(self):
        if not self.is_sharded:
            self.is_sharded = True
            self.shard()

    def embed(self, images):
        self.calls += 1
        return super().embed(images)


class SecondKind(Sharded):
    """FSDP2, by the mesh of Lightning's strategy."""

    def shard(self):
        mesh = self.device_mesh["data_parallel"]
        for part in (self.backbone, self.projector):
            fully_shard(part, mesh=mesh)

    @staticmethod
    def strategy():
        return {
            "strategy": ModelParallelStrategy(data_parallel_size=NUM_RANKS, tensor_parallel_size=1),
            "devices": NUM_RANKS,
        }


class FirstKind(Sharded):
    """FSDP1 with the user's parameters, as Lightning wraps; its own strategy wants a GPU, so by hand."""

    use_orig_params = True

    def shard(self):
        arguments = {"device_id": torch.device("cpu"), "use_orig_params": self.use_orig_params}
        self.backbone = FullyShardedDataParallel(self.backbone, **arguments)
        self.projector = FullyShardedDataParallel(self.projector, **arguments)

    @staticmethod
    def strategy():
        return {}


class FirstKindFlat(FirstKind):
    """FSDP1 with flat parameters only."""

    use_orig_params = False


NEEDS_A_GPU = torch.__version__ < "2.7"  # its FSDP2 asks the device for a stream's events
KINDS = [
    pytest.param(
        SecondKind,
        id="SecondKind",
        marks=pytest.mark.skipif(NEEDS_A_GPU, reason="FSDP2 of this torch needs a GPU"),
    ),
    pytest.param(FirstKind, id="FirstKind"),
    pytest.param(FirstKindFlat, id="FirstKindFlat"),
]


def diagnostics(*, strict: bool) -> list[Diagnostic]:
    return [*every_diagnostic(strict=strict), LatentTreeMonitor(strict=strict)]


def unwatched(rank: int, world_size: int, kind: type[Sharded]) -> dict[str, int]:
    """Steps, forward passes and this rank's share of the weights in a training, and of the weights as a whole."""
    module = kind()
    num_whole = sum(value.numel() for value in module.parameters())
    trainer, _ = fit(module, **kind.strategy())
    local = [value.to_local() if isinstance(value, DTensor) else value for value in module.parameters()]
    num_local = sum(value.numel() for value in local)
    return {"steps": trainer.global_step, "calls": module.calls, "local": num_local, "whole": num_whole}


def refused_later(rank: int, world_size: int, kind: type[Sharded]) -> int:
    """Forward passes of looks by hand after a validation, which leaves parameters gathered."""
    module = kind()
    fit(module, val=clean_loader(8), **kind.strategy())
    calls, (images, _) = module.calls, next(iter(clean_loader(8)))
    for look in (
        lambda: layer_features(module, images, ["backbone"]),
        lambda: covariance_scalars(module, torch.stack([images, images], 1)),
    ):
        with pytest.raises(ValueError, match=REFUSAL):
            look()
    return module.calls - calls


def refused(rank: int, world_size: int, kind: type[Sharded]) -> dict[str, int]:
    """Forward passes before each diagnostic refuses, alone in a training."""
    calls = {}
    for diagnostic in [*diagnostics(strict=False), *diagnostics(strict=True)]:
        module = kind()
        with pytest.raises(ValueError, match=REFUSAL):
            fit(module, [diagnostic], val=clean_loader(8), **kind.strategy())
        name = type(diagnostic).__name__
        calls[name] = calls.get(name, 0) + module.calls
    return calls


def refused_together(rank: int, world_size: int, kind: type[Sharded], stage: str) -> int:
    """Forward passes before all diagnostics in one trainer refuse."""
    module = kind()
    trainer = Trainer(**(QUIET | {"callbacks": diagnostics(strict=False), "max_epochs": 1} | kind.strategy()))
    loaders = {"fit": (view_loader(), clean_loader(8)), "validate": (clean_loader(8),)}[stage]
    with pytest.raises(ValueError, match=REFUSAL):
        getattr(trainer, stage)(module, *loaders)
    return module.calls


def on_ranks(function, kind: type[Sharded], *arguments):
    is_ours = kind is not SecondKind  # whose strategy makes the process group itself
    return run_ranks(function, NUM_RANKS, kind, *arguments, init=is_ours)


@pytest.mark.parametrize("kind", KINDS)
def test_training_without_diagnostics_runs(kind):
    for found in on_ranks(unwatched, kind):
        assert found["calls"] == 2 * found["steps"] > 2
        assert 0 < found["local"] < found["whole"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_diagnostic_refuses_before_any_forward(kind):
    exported = [getattr(callbacks, name) for name in callbacks.__all__]
    classes = [value for value in exported if inspect.isclass(value) and issubclass(value, Diagnostic)]
    bases = {base for one in classes for base in one.__mro__[1:]}
    names = {one.__name__ for one in classes if one not in bases}
    assert on_ranks(refused, kind) == [dict.fromkeys(names, 0)] * NUM_RANKS


@pytest.mark.parametrize("stage", ["fit", "validate"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_diagnostics_refuse_together(kind, stage):
    assert on_ranks(refused_together, kind, stage) == [0] * NUM_RANKS


@pytest.mark.parametrize("kind", KINDS)
def test_gathered_parameters_are_refused_too(kind):
    assert on_ranks(refused_later, kind) == [0] * NUM_RANKS
