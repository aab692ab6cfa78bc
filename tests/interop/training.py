"""A short training of any module on two views, with and without the diagnostics, and what must hold of it."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from helpers.toy_ssl import MemoryLogger, fit, seed_all
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    FeatureNormMonitor,
    LinearProbe,
    NeuronSelectivity,
)
from lightning_ssl_theory.warnings import DiagnosticWarning

from .architecture import NUM_CLASSES, NUM_SAMPLES, Inputs
from .oracle import expected, held, jacobians, weight_of

BATCH = 3
SECTIONS = ("covariance", "selectivity", "feature_norms", "collapse", "probe")
DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True)
class Case:
    """A module, its data, and the one argument of its user.

    Attributes:
        make: Makes the module; the same weights each time.
        views: Of all samples, the same each time; those beyond the second are local crops.
        read: What enters the loss, of the module and one view.
        argument: The one argument that every diagnostic is given, of the module.
        operators: Further arguments of CovarianceOperators.
        validates: Whether the module has a validation step.
        tolerance: Of trace and growth, relative.
    """

    make: Callable[[], LightningModule]
    views: Sequence[Inputs]
    read: Callable[[LightningModule, Inputs], Tensor]
    argument: Callable[[LightningModule], dict[str, Any]] = lambda _: {}
    operators: Mapping[str, Any] = field(default_factory=dict)
    validates: bool = True
    tolerance: float = 1e-6

    def untrained(self) -> LightningModule:
        """The module before its first step."""
        seed_all()
        return self.make()


@dataclass(frozen=True)
class Run:
    """What a training left behind.

    Attributes:
        module: After the training.
        random_state: The same.
        logger: With what was logged.
        sentences: Warnings of the diagnostics.
        states: For the samples whose features were looked at, the module's state at that moment.
    """

    module: LightningModule
    random_state: Tensor
    logger: MemoryLogger
    sentences: list[str]
    states: Mapping[int, dict[str, Tensor]]

    def first(self, section: str) -> dict[str, float]:
        """The values of the section's first look, by `<layer>/<quantity>`."""
        for _, values in self.logger.looks(f"{section}/")[:1]:
            return {k.partition("/")[2]: v for k, v in values.items() if k.startswith(f"{section}/")}
        return {}

    @property
    def covered(self) -> list[str]:
        """The layers with a trace in the first look, in the network's order."""
        return [key.removesuffix("/trace") for key in self.first("covariance") if key.endswith("/trace")]


class Moments(Callback):
    """Keeps the module's state of every look at features; a forward pass of a later batch may move it."""

    def __init__(self) -> None:
        self.states: dict[int, dict[str, Tensor]] = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._keep(pl_module, range(batch_idx * BATCH, (batch_idx + 1) * BATCH))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch and not trainer.enable_validation:
            self._keep(pl_module, range(NUM_SAMPLES))  # all batches, by the network of now

    def _keep(self, module: LightningModule, samples: range) -> None:
        state = deepcopy(module.state_dict())
        self.states |= dict.fromkeys(samples, state)


class Items(Dataset):
    """Items of a function of the index."""

    def __init__(self, item: Callable[[int], Any]) -> None:
        self.item = item

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


def sample(inputs: Inputs, index: int | slice) -> Inputs:
    """One sample, or some."""
    if isinstance(inputs, dict):
        return {key: value[index] for key, value in inputs.items()}
    return inputs[index]


def pair_loader(views: Sequence[Inputs]) -> DataLoader:
    """Batches ([view, view, ...], labels, file names), in order."""
    return DataLoader(
        Items(lambda i: ([sample(view, i) for view in views], i % NUM_CLASSES, f"{i}.png")), BATCH
    )


def clean_loader(views: Sequence[Inputs]) -> DataLoader:
    """Batches (inputs, labels), in order."""
    return DataLoader(Items(lambda i: (sample(views[0], i), i % NUM_CLASSES)), BATCH)


def first_batch(views: Sequence[Inputs]) -> Inputs:
    """Two views of the first batch, those of a sample in turn, floating ones in float64."""
    batch = default_collate([sample(view, i) for i in range(BATCH) for view in views[:2]])

    def double(value: Tensor) -> Tensor:
        return value.double() if value.is_floating_point() else value

    return {k: double(v) for k, v in batch.items()} if isinstance(batch, dict) else double(batch)


def tapped(module: nn.Module) -> list[str]:
    """The first and the middle dense layer."""
    names = [name for name, layer in module.named_modules() if isinstance(layer, DENSE)]
    return sorted({names[0], names[len(names) // 2]}, key=names.index) if names else []


def diagnostics(case: Case, module: LightningModule) -> list[Callback]:
    """Every callback of features and operators."""
    layers, argument = ["output", *tapped(module)], case.argument(module)
    clean = clean_loader(case.views)
    operators = {"num_probes": None, "precision": "float64", "every_n_steps": 2} | argument | case.operators
    return [
        CovarianceOperators(**operators),
        NeuronSelectivity(layers, num_classes=NUM_CLASSES, **argument),
        FeatureNormMonitor(layers, **argument),
        CollapseMonitor(layers, **argument),
        LinearProbe(
            "output", num_classes=NUM_CLASSES, fit_loader=clean, score_loader=clean, few_labels=(), **argument
        ),
    ]


def trained(case: Case, module: LightningModule, callbacks: Sequence[Callback]) -> Run:
    """One epoch of two steps, and a validation."""
    seed_all(1)
    clean = clean_loader(case.views) if case.validates else None
    arguments = {"train": pair_loader(case.views), "val": clean, "num_sanity_val_steps": 0}
    moments = Moments()  # last, so that it sees what the diagnostics saw
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # an untrained network's gradients may be so large that a step leaves it without a finite output
        _, logger = fit(module, [*callbacks, moments], gradient_clip_val=1.0, **arguments)
    sentences = [str(w.message) for w in caught if issubclass(w.category, DiagnosticWarning)]
    return Run(module, torch.get_rng_state(), logger, sentences, moments.states)


def watched(case: Case) -> Run:
    """A training with all diagnostics."""
    module = case.untrained()
    return trained(case, module, diagnostics(case, module))


def check_training(case: Case, seen: Run) -> None:
    """Weights, buffers and random state are bitwise those of a training without diagnostics."""
    plain = trained(case, case.untrained(), [])
    state = seen.module.state_dict()
    for name, value in plain.module.state_dict().items():
        assert torch.equal(value, state[name]), f"{name} differs from a training without diagnostics"
    assert torch.equal(plain.random_state, seen.random_state), "the random state differs"


def check_finite(seen: Run) -> None:
    """Every section has looks, and every logged number is finite."""
    for section in SECTIONS:
        assert seen.first(section), f"no look at {section}: {seen.sentences}"
    for _, values in seen.logger.rows:
        for key, value in values.items():
            assert math.isfinite(value), f"{key} is {value}"


def check_operators(case: Case, seen: Run) -> None:
    """Trace and growth of the first, a middle and the last covered layer equal the oracle's."""
    values, batch = seen.first("covariance"), first_batch(case.views)
    module = held(case.untrained, lambda module: case.read(module, batch))
    covered = seen.covered
    assert covered, "no layer has a trace"
    names = list(dict.fromkeys([covered[0], covered[len(covered) // 2], covered[-1]]))
    weights = [weight_of(module, name) for name in names]
    found = jacobians(case.read(module, batch), weights)
    for name, weight, jacobian in zip(names, weights, found, strict=True):
        for key, value in expected(jacobian, weight, num_views=2)._asdict().items():
            logged = values[f"{name}/{key}"]
            assert logged == pytest.approx(value, rel=case.tolerance, abs=1e-12), (
                f"{name}/{key} is {logged}, true {value}"
            )


@torch.no_grad()
def check_features(case: Case, seen: Run) -> None:
    """Mean norms equal those of one sample at a time, of the look's own moment; a layer whose rows are no samples may be absent."""
    module, values = case.untrained().eval(), seen.first("feature_norms")
    for name in tapped(module):
        layer, found = module.get_submodule(name), []
        handle = layer.register_forward_hook(
            lambda _, __, outputs, found=found: found.append(outputs.clone())
        )
        for index, state in seen.states.items():
            module.load_state_dict(state)
            case.read(module, sample(case.views[0], slice(index, index + 1)))
        handle.remove()
        axis = -1 if isinstance(layer, nn.Linear) else 1
        norms = [outputs.movedim(axis, -1).flatten(0, -2).mean(0).norm() for outputs in found]
        if len(norms) == len(seen.states) and f"{name}/mean_norm" in values:
            logged, right = values[f"{name}/mean_norm"], float(torch.stack(norms).mean())
            assert logged == pytest.approx(right, rel=1e-4), f"{name}: mean norm {logged}, true {right}"
