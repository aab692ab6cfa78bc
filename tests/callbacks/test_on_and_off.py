"""Promise 1, case by case: each diagnostic alone, in each kind of training, on one and on two processes.

`pytest tests/callbacks/test_on_and_off.py --all-cases` runs 96 cases on one process and 16 on two. Without the option
each diagnostic is tried in plain training, and every other kind of training with one of them and with
CovarianceOperators.
"""

from copy import deepcopy
from functools import partial

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.every_diagnostic import every_diagnostic
from helpers.toy_ssl import ToySSL, clean_loader, fit, seed_all, view_loader
from lightning.pytorch import callbacks
from torch import nn

from lightning_ssl_theory import MomentumContrastSSL, PredictorSSL
from lightning_ssl_theory.callbacks import CovarianceOperators

SWA, ACCUMULATION = callbacks.StochasticWeightAveraging, callbacks.GradientAccumulationScheduler


def own_module(kind, *heads, **options):
    """A module of this library around the toy's networks."""
    toy = ToySSL()
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    return kind(toy.backbone, toy.projector, *heads, optimizer=optimizer, **options)


TRAININGS = {
    "plain": (ToySSL, {}, []),
    "manual": (partial(ToySSL, is_manual=True), {}, []),
    "accumulated": (ToySSL, {"accumulate_grad_batches": 2}, []),
    "clipped": (ToySSL, {"gradient_clip_val": 0.1}, []),
    "bf16": (ToySSL, {"precision": "bf16-mixed"}, []),
    "float64": (ToySSL, {"precision": "64-true"}, []),
    "validated within": (ToySSL, {"val_check_interval": 2}, []),
    "averaged by EMA": (ToySSL, {}, [lambda: callbacks.EMAWeightAveraging(decay=0.9)]),
    "averaged by SWA": (ToySSL, {}, [lambda: SWA(swa_lrs=0.01, swa_epoch_start=1)]),
    "accumulated by schedule": (ToySSL, {}, [lambda: ACCUMULATION({0: 1, 1: 2})]),
    "BYOL": (lambda: own_module(PredictorSSL, nn.Linear(3, 3), ema=0.9), {}, []),
    "MoCo": (lambda: own_module(MomentumContrastSSL, queue_size=16), {}, []),
}
NUM_DIAGNOSTICS = 8


def diagnostic(index):
    if index == NUM_DIAGNOSTICS - 1:
        return CovarianceOperators(["projector.*"], every_n_steps=1, num_probes=None)
    return (
        every_diagnostic(every_n_steps=2)[index] if index % 2 else every_diagnostic(every_n_epochs=1)[index]
    )


def end(training, diagnostics, **strategy):
    """All that training has decided after two epochs of five batches, and how many looks were logged."""
    build_module, of_trainer, others = TRAININGS[training]
    seed_all()
    module = build_module()
    trainer, logger = fit(
        module,
        [*diagnostics, *[build() for build in others]],
        train=view_loader(40 * (2 if strategy else 1)),
        val=clean_loader(),
        max_epochs=2,
        **of_trainer,
        **strategy,
    )
    decided = {
        "weights": deepcopy(module.state_dict()),
        "momentum": {
            str(index): state["momentum_buffer"]
            for index, state in trainer.optimizers[0].state_dict()["state"].items()
        },
        "random": {"torch": torch.get_rng_state()},
    }
    return decided, len(logger.rows)


def is_bitwise(left, right):
    return left.keys() == right.keys() and all(
        left[part].keys() == right[part].keys()
        and all(torch.equal(left[part][name], right[part][name]) for name in left[part])
        for part in left
    )


def chosen(training, is_all):
    if is_all or training == "plain":
        return range(NUM_DIAGNOSTICS)
    return [list(TRAININGS).index(training) % (NUM_DIAGNOSTICS - 1), NUM_DIAGNOSTICS - 1]


def with_reasons(trainings):
    """The trainings as parameters; one is skipped where Lightning is older than what it needs."""
    has_ema = hasattr(callbacks, "EMAWeightAveraging")
    too_old = pytest.mark.skipif(not has_ema, reason="this Lightning has no EMAWeightAveraging")
    return [pytest.param(name, marks=too_old if "EMA" in name else ()) for name in trainings]


@pytest.mark.parametrize("training", with_reasons(TRAININGS))
def test_each_diagnostic_alone(training, pytestconfig):
    plain, none = end(training, [])
    assert none == 0
    for index in chosen(training, pytestconfig.getoption("--all-cases")):
        watched, num_looks = end(training, [diagnostic(index)])
        assert num_looks >= 2
        assert is_bitwise(plain, watched), index


def on_two(rank, world_size, training, indices):
    strategy = {"strategy": "ddp", "devices": world_size}
    plain, _ = end(training, [], **strategy)
    found = [end(training, [diagnostic(index)], **strategy) for index in indices]
    return [(is_bitwise(plain, watched), num_looks) for watched, num_looks in found]


@pytest.mark.ddp
@pytest.mark.parametrize("training", with_reasons(["plain", "averaged by EMA"]))
def test_each_diagnostic_alone_on_two_processes(training, pytestconfig):
    is_all = pytestconfig.getoption("--all-cases")
    indices = (
        [0, NUM_DIAGNOSTICS - 1] if training == "plain" and not is_all else list(chosen(training, is_all))
    )
    for found in run_ranks(on_two, 2, training, indices, init=False):
        assert len(found) == len(indices)
        assert all(is_equal and num_looks >= 2 for is_equal, num_looks in found)


def test_the_comparison_can_fail():
    plain, _ = end("plain", [])
    clipped, _ = end("clipped", [])
    assert not is_bitwise(plain, clipped)
