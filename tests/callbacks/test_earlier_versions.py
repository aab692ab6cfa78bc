"""Checkpoints of earlier versions load, and their keys are still logged."""

from pathlib import Path

import pytest
import torch
from helpers.every_diagnostic import every_diagnostic
from helpers.toy_ssl import ToySSL, clean_loader, fit, seed_all
from lightning.pytorch import Callback

FIRST = (
    Path(__file__).parent / "saved" / "version_0_1_0.ckpt"
)  # of `every_diagnostic(every_n_steps=2)` after two steps


class AtStart(Callback):
    """What the trainer shows when training starts."""

    def on_train_start(self, trainer, pl_module):
        self.step, self.shown = (
            trainer.global_step,
            {key: float(value) for key, value in trainer.callback_metrics.items()},
        )


@pytest.fixture(scope="module")
def saved():
    return torch.load(FIRST, weights_only=True)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
def test_a_run_of_the_first_version_goes_on(saved):
    seed_all()
    module, start = ToySSL(), AtStart()
    diagnostics = every_diagnostic(every_n_steps=2)
    trainer, logger = fit(module, [*diagnostics, start], val=clean_loader(), ckpt_path=FIRST, max_epochs=2)
    before = {key: value for state in saved["callbacks"].values() for key, value in state["values"].items()}
    assert start.step == 2
    assert {key: start.shown[key] for key in before} == pytest.approx(before)
    assert {diagnostic.state_key for diagnostic in diagnostics} >= set(saved["callbacks"])
    assert trainer.global_step > 4
    logged = {key for _, values in logger.rows for key in values}
    assert logged >= set(before)
    assert {step for step, _ in logger.looks("collapse/")} == set(range(4, trainer.global_step + 1, 2))
