"""Promise 2: the diagnostics have the same values on one, two and three processes."""

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.every_diagnostic import SECTIONS, every_diagnostic
from helpers.toy_ssl import ToySSL, Views, fit, seed_all, toy_images, view_loader
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_ssl_theory.callbacks import CollapseMonitor, CovarianceOperators
from lightning_ssl_theory.losses import SoftTripletLoss

TOLERANCE = 1e-5
ROWS = {1: [9], 2: [6, 3], 3: [4, 3, 2]}  # rows of each rank in a training batch of nine
NUM_VALIDATION = 13  # odd: DistributedSampler pads


class Shard(IterableDataset):
    """This rank's rows of two training batches; the ranks' rows follow one another."""

    def __init__(self, rank, rows):
        self.views, self.labels = Views(*toy_images(18)).views, torch.arange(18) % 3
        self.first, self.last = sum(rows[:rank]), sum(rows[: rank + 1])

    def __iter__(self):
        for start in (0, 9):
            own = slice(start + self.first, start + self.last)
            yield [view[own] for view in self.views], self.labels[own]


class Drifting(ToySSL):
    """Every rank but the first evaluates with running statistics that are off."""

    def on_validation_start(self):
        if self.global_rank > 0:
            self.backbone.norm.running_mean += 5.0


def diagnostics():
    exact = CovarianceOperators(
        ["projector.*", nn.Conv2d, "backbone.norm"],
        every_n_steps=2,
        memory_budget=120_000,  # chunks
        precision="float64",
        num_probes=None,
        estimator="unbiased",
        loss=SoftTripletLoss(temperature=0.5, margin=0.2, beta=0.3),
        name="exact",
    )
    few = CollapseMonitor(["backbone.relu"], every_n_epochs=1, num_samples=7, name="few")
    named = every_diagnostic(every_n_epochs=1, name="epochs")
    return [*every_diagnostic(every_n_steps=2), *named, exact, few]


def logged(rank, world_size, weights, rows, validation):
    """What a run with learning rate 0 logs, look by look, and what trainer.validate returns."""
    seed_all(rank)
    module = Drifting(lr=0.0, momentum=0.0)
    module.load_state_dict(weights)
    loader = DataLoader(TensorDataset(*validation), batch_size=3)
    strategy = {"strategy": "ddp", "devices": world_size} if world_size > 1 else {}
    train = DataLoader(Shard(rank, rows), batch_size=None)
    trainer, logger = fit(module, diagnostics(), train=train, val=loader, **strategy)
    fitted = [row for section in SECTIONS for row in logger.looks(f"{section}/")]
    (validated,) = trainer.validate(module, loader, verbose=False)
    validated = {key: value for key, value in validated.items() if not key.startswith("overhead/")}
    return [*fitted, (-1, validated)]


@pytest.fixture(scope="module")
def weights():
    """A trained network, so that BatchNorm's running statistics mean something."""
    seed_all()
    module = ToySSL()
    fit(module, train=view_loader(), max_epochs=4)
    return module.state_dict()


@pytest.fixture(scope="module")
def one_process(weights):
    return logged(0, 1, weights, ROWS[1], toy_images(NUM_VALIDATION, seed=2))


def largest_difference(found, expected):
    """Relative, over all looks and keys."""
    assert [(step, list(values)) for step, values in found] == [
        (step, list(values)) for step, values in expected
    ]
    differences = {
        (step, key): abs(value - wanted[key]) / max(abs(value), abs(wanted[key]), 1e-12)
        for (step, values), (_, wanted) in zip(found, expected, strict=True)
        for key, value in values.items()
    }
    worst = max(differences, key=differences.get)
    return differences[worst], worst, differences


@pytest.mark.ddp
@pytest.mark.parametrize("world_size", [2, pytest.param(3, marks=pytest.mark.all_cases)])
def test_ranks_agree_with_one_process(world_size, weights, one_process, record_property):
    validation = toy_images(NUM_VALIDATION, seed=2)
    first, *others = run_ranks(logged, world_size, weights, ROWS[world_size], validation, init=False)
    # by steps 0 and 2; by epochs, two of them from step 0; the further two; trainer.validate
    count = len(every_diagnostic())
    assert len(first) == count * 2 + (count + 2) + (2 + 1) + 1
    assert all(values for _, values in first)
    for other in others:
        assert other == first  # bitwise
    difference, worst, _ = largest_difference(first, one_process)
    record_property("largest relative difference", difference)
    assert difference < TOLERANCE, worst


def test_without_the_other_ranks_the_values_differ(weights, one_process):
    # What the first of two ranks would log from its own data: its training rows, every second validation image.
    images, labels = toy_images(NUM_VALIDATION, seed=2)
    alone = logged(0, 1, weights, ROWS[2], (images[::2], labels[::2]))
    _, _, differences = largest_difference(alone, one_process)
    for section in SECTIONS:
        largest = max(value for (_, key), value in differences.items() if key.startswith(section))
        # weights are the same anyway, and so are the views of a loader of its own
        assert largest > 100 * TOLERANCE or section in ("orthogonality", "generalization"), section


def test_counting_padded_rows_twice_would_show(weights, one_process):
    images, labels = toy_images(NUM_VALIDATION, seed=2)
    padded = (torch.cat([images, images[:1]]), torch.cat([labels, labels[:1]]))
    _, _, differences = largest_difference(logged(0, 1, weights, ROWS[1], padded), one_process)
    for section in ("selectivity", "feature_norms", "collapse"):
        assert max(v for (_, key), v in differences.items() if key.startswith(section)) > 100 * TOLERANCE
