"""A run resumed from its checkpoint equals the uninterrupted one, and so does what it logs."""

import pytest
import torch
from helpers.every_diagnostic import SECTIONS, every_diagnostic
from helpers.toy_ssl import ToySSL, Views, clean_loader, fit, seed_all, toy_images, view_loader
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, default_collate

from lightning_ssl_theory.callbacks import CollapseMonitor, CovarianceOperators

CHECKPOINT_STEP = 7  # in the middle of the second of three epochs of five steps


class Reproducible(ToySSL):
    """Draws from the step's number, so that a resumed run may be compared at all."""

    def training_step(self, batch, batch_idx):
        seed_all(self.global_step)
        return super().training_step(batch, batch_idx)


class AtStart(Callback):
    """What the diagnostics hold when training starts."""

    def on_train_start(self, trainer, pl_module):
        self.step = trainer.global_step
        self.monitored = {key: float(value) for key, value in trainer.callback_metrics.items()}
        self.values = [dict(callback.values) for callback in trainer.callbacks if hasattr(callback, "values")]


def diagnostics():
    return [
        *every_diagnostic(every_n_steps=3),
        *every_diagnostic(every_n_epochs=1, name="epochs"),
        CovarianceOperators(["backbone.conv"], every_n_steps=2, name="few"),
        CovarianceOperators(["projector.hidden"], every_n_steps=2, name="few"),
    ]


def run(folder, **arguments):
    dataset = Views(*toy_images(8))
    batch = default_collate([dataset[i] for i in range(8)])
    module, start = Reproducible(), AtStart()
    saver = ModelCheckpoint(folder, "{step}", every_n_train_steps=CHECKPOINT_STEP, save_top_k=-1)
    trainer, logger = fit(
        module,
        [*diagnostics(), start, saver],
        train=DataLoader([batch] * 5, batch_size=None),
        val=clean_loader(),
        max_epochs=3,
        enable_checkpointing=True,
        num_sanity_val_steps=0,
        **arguments,
    )
    rows = [row for section in SECTIONS for row in logger.looks(f"{section}/")]
    return module.state_dict(), trainer.optimizers[0].state_dict(), rows, start


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    whole = run(folder)
    checkpoint = folder / f"step={CHECKPOINT_STEP}.ckpt"
    return whole, run(folder / "resumed", ckpt_path=checkpoint), checkpoint


def test_weights_and_optimizer(runs):
    (weights, optimizer, *_), (resumed, resumed_optimizer, *_), _ = runs
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert optimizer.keys() == resumed_optimizer.keys()
    for index, state in optimizer["state"].items():
        assert torch.equal(state["momentum_buffer"], resumed_optimizer["state"][index]["momentum_buffer"])


def test_logged_values(runs):
    (*_, rows, _), (*_, resumed_rows, _), _ = runs
    later = [row for row in rows if row[0] > CHECKPOINT_STEP]
    assert {step for step, _ in later} == {8, 9, 10, 12, 14, 15}
    assert later == resumed_rows


def test_restored_values(runs):
    (*_, rows, _), (*_, start), _ = runs
    assert start.step == CHECKPOINT_STEP
    assert len(start.values) == 2 * len(every_diagnostic()) + 2
    before = {frozenset(values.items()) for step, values in rows if step <= CHECKPOINT_STEP}
    for values in start.values:
        assert frozenset(values.items()) in before
        assert values.keys() <= start.monitored.keys()
    assert start.monitored["covariance/few/backbone.conv/trace"] == pytest.approx(
        start.values[-2]["covariance/few/backbone.conv/trace"], rel=1e-6
    )


def test_checkpoint_loads_with_weights_only(runs):
    *_, checkpoint = runs
    states = torch.load(checkpoint, weights_only=True)["callbacks"]
    ours = {key: state for key, state in states.items() if "values" in state}
    assert len(ours) == 2 * len(every_diagnostic()) + 2  # none lost for another of the same class
    assert {state["last_step"] for state in ours.values()} == {5, 6}


def test_a_loader_that_cannot_keep_its_place_is_told_in_one_sentence(tmp_path, recwarn):
    arguments = {"train": view_loader(), "max_epochs": 2}
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=CHECKPOINT_STEP, save_top_k=-1)
    fit(ToySSL(), [CollapseMonitor(every_n_steps=3), saver], enable_checkpointing=True, **arguments)
    recwarn.clear()
    checkpoint = tmp_path / f"step={CHECKPOINT_STEP}.ckpt"
    fit(ToySSL(), [CollapseMonitor(every_n_steps=3)], ckpt_path=checkpoint, **arguments)
    told = [str(warning.message) for warning in recwarn if "resumable" in str(warning.message)]
    assert len(told) == 1
    assert "your dataloader is not resumable" in told[0]
    assert "implementing the `state_dict` / `load_state_dict` interface" in told[0]
