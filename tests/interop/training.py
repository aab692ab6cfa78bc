"""A short training of any network on two views, with and without the diagnostics."""

import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from helpers.toy_ssl import MemoryLogger, fit, seed_all
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Dataset, default_collate

from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    FeatureNormMonitor,
    LinearProbe,
    NeuronSelectivity,
)
from lightning_ssl_theory.warnings import DiagnosticWarning

from .architecture import NUM_CLASSES, NUM_SAMPLES, Architecture, Inputs

BATCH = 3


class Trained(LightningModule):
    """The user's module: views together, features apart."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.network, self.read = architecture.build(), architecture.read
        if not architecture.keeps_zeros:
            self.network.apply(fill_zeros)

    def forward(self, inputs: Inputs) -> Any:
        return self.network(**inputs) if isinstance(inputs, dict) else self.network(inputs)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        first, second = (self.read(self(view)) for view in batch[0])
        return (first - second).square().mean() - first.var(0).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


@torch.no_grad()
def fill_zeros(module: nn.Module) -> None:
    """Random numbers for matrices that begin at zero, as heads and last layers of branches often do."""
    for parameter in module.parameters(recurse=False):
        if not is_lazy(parameter) and parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)


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


def views_of(architecture: Architecture) -> list[Inputs]:
    """Two views of all samples, always the same."""
    generator = torch.Generator().manual_seed(0)
    return [architecture.inputs(generator) for _ in range(2)]


def pair_loader(views: Sequence[Inputs]) -> DataLoader:
    """Batches ([view, view], labels), in order."""
    return DataLoader(Items(lambda i: ([sample(view, i) for view in views], i % NUM_CLASSES)), BATCH)


def clean_loader(views: Sequence[Inputs]) -> DataLoader:
    """Batches (inputs, labels), in order."""
    return DataLoader(Items(lambda i: (sample(views[0], i), i % NUM_CLASSES)), BATCH)


@dataclass
class Run:
    """What a training left behind."""

    module: LightningModule
    random_state: Tensor
    logger: MemoryLogger
    untrained: list[nn.Module] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def first(self, prefix: str) -> dict[str, float]:
        """The values of the first look of a section, without the section's name."""
        looks = self.logger.looks(prefix)
        return (
            {k.removeprefix(prefix): v for k, v in looks[0][1].items() if k.startswith(prefix)}
            if looks
            else {}
        )


class Keep(Callback):
    """Copies the network as the first look sees it."""

    def __init__(self) -> None:
        self.copies: list[nn.Module] = []

    def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, *_: Any) -> None:
        if not self.copies:
            self.copies.append(deepcopy(pl_module.network))


def diagnostics(
    *, layers: Sequence[str], clean: DataLoader, output: dict[str, Any], operators: dict[str, Any]
) -> list[Callback]:
    """Every callback of features and operators."""
    return [
        CovarianceOperators(num_probes=None, precision="float64", every_n_steps=2, **(output | operators)),
        NeuronSelectivity(layers, num_classes=NUM_CLASSES, **output),
        FeatureNormMonitor(layers, **output),
        CollapseMonitor(layers, **output),
        LinearProbe("output", num_classes=NUM_CLASSES, fit_loader=clean, few_labels=(), **output),
    ]


def run(module: LightningModule, views: Sequence[Inputs], callbacks: Sequence[Callback]) -> Run:
    """One epoch of two steps, and a validation."""
    keep = Keep()
    seed_all(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, logger = fit(module, [keep, *callbacks], train=pair_loader(views), val=clean_loader(views))
    sentences = [str(w.message) for w in caught if issubclass(w.category, DiagnosticWarning)]
    return Run(module, torch.get_rng_state(), logger, keep.copies, sentences)


def first_batch(views: Sequence[Inputs]) -> Inputs:
    """The views of the first batch, those of a sample in turn, floating ones in float64."""
    rows = [sample(view, i) for i in range(BATCH) for view in views]
    batch = default_collate(rows)

    def double(value: Tensor) -> Tensor:
        return value.double() if value.is_floating_point() else value

    return {k: double(v) for k, v in batch.items()} if isinstance(batch, dict) else double(batch)
