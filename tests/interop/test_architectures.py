"""Other people's networks: every diagnostic attaches, disturbs nothing, and its numbers are right or absent.

README.md says how to run them, and has the table of what each network's look covers.
"""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from .architecture import Architecture, Inputs
from .table import README, Row, left_out, names_in, with_table
from .training import Case, check_features, check_finite, check_operators, check_training, watched
from .zoo import ZOO

THEIRS = [architecture for architecture in ZOO if not architecture.name.startswith("torch-")]


class Trained(LightningModule):
    """The user's module: a network, and a loss that draws views together and samples apart."""

    def __init__(self, architecture: Architecture, inputs: Inputs) -> None:
        super().__init__()
        self.network, self.read = architecture.build(), architecture.read
        if not architecture.keeps_zeros:
            self.network.apply(fill_zeros)
        if any(isinstance(module, _BatchNorm) for module in self.network.modules()):
            settle(self.network, lambda: self(inputs))

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


@torch.no_grad()
def settle(network: nn.Module, call: Any) -> None:
    """Give BatchNorms the statistics of a batch: untrained ones overflow in evaluation mode."""
    norms = {m: m.momentum for m in network.modules() if isinstance(m, _BatchNorm)}
    for norm in norms:
        norm.momentum = 1.0
    call()
    for norm, momentum in norms.items():
        norm.momentum = momentum


def case_of(architecture: Architecture) -> Case:
    generator = torch.Generator().manual_seed(0)
    views = [architecture.inputs(generator) for _ in range(2)]

    def argument(module: LightningModule) -> dict[str, Any]:
        if architecture.read_batch is not None:
            return {"read_batch": architecture.read_batch}
        if callable(architecture.output):
            return {"output": lambda inputs: architecture.read(module(inputs))}
        return {} if architecture.output is None else {"output": architecture.output}

    return Case(
        make=lambda: Trained(architecture, views[0]),
        views=views,
        read=lambda module, inputs: architecture.read(module(inputs)),
        argument=argument,
        operators=architecture.arguments,
        tolerance=architecture.tolerance,
    )


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(a, id=a.name, marks=[] if a.in_ci else [pytest.mark.all_architectures]) for a in ZOO],
)
def test_architecture(architecture: Architecture, record_property: Any) -> None:
    pytest.importorskip(architecture.name.partition("-")[0], reason="comes with the extra `interop`")
    case = case_of(architecture)
    seen = watched(case)
    share = seen.first("covariance").get("weight_share", math.nan)
    row = Row(architecture.name, share, architecture.special, seen.sentences)
    record_property("architecture", tuple(row))  # a plain one, which can be sent between processes
    check_training(case, seen)
    check_finite(seen)
    if not architecture.is_random:
        check_operators(case, seen)
        check_features(case, seen)
    assert share >= architecture.least_share


def test_the_table_is_wide() -> None:
    """At least 40 networks of three libraries, about 25 of them in CI; 30 keep half of their weights in a look."""
    assert len(THEIRS) >= 40
    assert sum(a.least_share >= 0.5 for a in THEIRS) >= 30
    assert 20 <= sum(a.in_ci for a in THEIRS) <= 30
    assert len({a.name for a in ZOO}) == len(ZOO)


def test_the_table_lists_every_network() -> None:
    """Shares are those of the versions that it was written with."""
    assert sorted(names_in(README.read_text())) == sorted(architecture.name for architecture in ZOO)


def test_a_row_by_hand() -> None:
    sentences = [
        "CovarianceOperators left out 'network.blocks.0.bias': does not lead to the output",
        "CovarianceOperators left out 'network.blocks.1.bias': does not lead to the output",
        "FeatureNormMonitor left out 'network.0': Expected layer 'network.0' to see one; leave it out.",
        "CollapseMonitor left out 'network.0': Expected layer 'network.0' to see one; leave it out.",
        "CovarianceOperators left out a look. Expected a batch.",
    ]
    expected = (
        "operators: does not lead to the output (`blocks.*.bias`); features: Expected the layer to see one (`0`); "
        "CovarianceOperators left out a look. Expected a batch."
    )
    assert left_out(sentences) == expected
    text = with_table(
        "Before\n<!-- written by --write-table -->\nold\n<!-- end -->\nAfter\n",
        [Row("timm-vit-b", 0.5, "tokens", sentences), Row("torch-mlp", 0.25, "plain", [])],
    )
    assert text.startswith("Before\n<!-- written")
    assert text.endswith("<!-- end -->\nAfter\n")
    assert "1 of 1 networks" in text
    assert "old" not in text
    assert f"| timm | vit-b | 0.500 | tokens | {expected} |" in text
    assert "| torch | mlp | 0.250 | plain | – |" in text
    assert names_in(text) == ["timm-vit-b", "torch-mlp"]
