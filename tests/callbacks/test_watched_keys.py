"""Monitors of a key that comes seldom, or whose look is left out, do not end the run, and no stale score stands in."""

import math

import pytest
import torch
from helpers.toy_ssl import ToySSL, clean_loader, fit, view_loader
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lightning_ssl_theory.callbacks import CollapseMonitor
from lightning_ssl_theory.warnings import DiagnosticWarning

KEY = "collapse/output/effective_rank"


class Plateau(ToySSL):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": KEY}}


class Broken(CollapseMonitor):
    """Its looks at some epochs cannot be taken."""

    def __init__(self, epochs, **arguments):
        super().__init__(**arguments)
        self.epochs = epochs

    def measure(self, trainer, pl_module):
        if trainer.current_epoch in self.epochs:
            raise RuntimeError("out of order")
        return super().measure(trainer, pl_module)


def monitored_run(callback, monitor, folder, *, max_epochs=4, **arguments):
    """The epochs that were run, and the key's value at the end of each."""
    seen = []

    class Watching(Plateau if monitor == "plateau" else ToySSL):
        def on_train_epoch_end(self):
            seen.append(float(self.trainer.callback_metrics.get(KEY, math.nan)))

    monitors = {
        "stopping": lambda: EarlyStopping(KEY, mode="max", patience=9),
        "checkpoint": lambda: ModelCheckpoint(folder, monitor=KEY, mode="max"),
    }
    own = [monitors[monitor]()] if monitor in monitors else []
    trainer, _ = fit(
        Watching(),
        [callback, *own],
        val=clean_loader(),
        max_epochs=max_epochs,
        enable_checkpointing=True,
        **arguments,
    )
    return trainer, seen


MONITORS = ["stopping", "checkpoint", "plateau"]


@pytest.mark.parametrize("monitor", MONITORS)
@pytest.mark.parametrize("arguments", [{"every_n_epochs": 2}, {"every_n_epochs": 9}, {"every_n_steps": 7}])
def test_a_key_that_comes_seldom(monitor, arguments, tmp_path):
    trainer, seen = monitored_run(CollapseMonitor(**arguments), monitor, tmp_path)
    assert trainer.current_epoch == 4
    assert all(math.isfinite(value) for value in seen)  # from the first validation on


@pytest.mark.parametrize("monitor", MONITORS)
def test_validation_that_comes_seldom(monitor, tmp_path):
    trainer, seen = monitored_run(CollapseMonitor(), monitor, tmp_path, check_val_every_n_epoch=2)
    assert trainer.current_epoch == 4
    assert [math.isfinite(value) for value in seen] == [False, True, True, True]


@pytest.mark.parametrize("monitor", MONITORS)
def test_a_first_look_that_is_left_out(monitor, tmp_path):
    with pytest.warns(
        DiagnosticWarning, match="Broken left out a look. .*RuntimeError was raised: out of order"
    ):
        trainer, seen = monitored_run(Broken({0}), monitor, tmp_path)
    assert trainer.current_epoch == 4
    assert [math.isfinite(value) for value in seen] == [False, True, True, True]


def test_a_stale_score_does_not_stand_for_a_missing_one(tmp_path):
    with pytest.warns(DiagnosticWarning, match="out of order"):
        trainer, seen = monitored_run(Broken({1, 2}), "checkpoint", tmp_path)
    assert [math.isfinite(value) for value in seen] == [True, False, False, True]
    (score,) = trainer.checkpoint_callback.best_k_models.values()
    assert float(score) in seen
    callback = Broken({1})
    with pytest.warns(DiagnosticWarning, match="out of order"):
        trainer, _ = fit(ToySSL(), [callback], val=clean_loader(), max_epochs=2)
    assert callback.values == {}
    assert not any(
        key.startswith("collapse/") for key in trainer.callback_metrics
    )  # nobody watches: nothing is left
    assert not any(key.startswith("collapse/") for key in trainer.logged_metrics)


def test_a_key_that_is_not_due_keeps_its_value():
    trainer, logger = fit(ToySSL(), [CollapseMonitor(every_n_epochs=2)], val=clean_loader(), max_epochs=3)
    (row,) = logger.looks("collapse/")
    assert float(trainer.callback_metrics[KEY]) == pytest.approx(row[1][KEY])


def test_a_misspelt_key_is_left_to_lightning(tmp_path):
    stopper = EarlyStopping("collapse/output/effectiv_rank")
    with pytest.raises(RuntimeError, match="collapse/output/effectiv_rank` which is not available"):
        fit(ToySSL(), [CollapseMonitor(), stopper], val=clean_loader())


def test_early_stopping_is_told_at_the_start(monkeypatch):
    told = []
    monkeypatch.setattr("lightning_ssl_theory.callbacks.monitors.rank_zero_info", told.append)
    stopper = EarlyStopping(KEY, mode="max", patience=9)
    fit(ToySSL(), [CollapseMonitor(), stopper], val=clean_loader())
    assert not stopper.check_finite
    (sentence,) = told
    assert (
        f"EarlyStopping takes a look at '{KEY}' that is left out, or not taken yet, for no improve"
        in sentence
    )
    assert "Pass `check_finite=False` to say so yourself." in sentence
    fit(ToySSL(), [CollapseMonitor(), EarlyStopping(KEY, check_finite=False)], val=clean_loader())
    assert len(told) == 1


def test_periods_that_never_meet_are_told_at_the_start():
    with pytest.warns(
        DiagnosticWarning, match="CollapseMonitor never looks. Expected .*`every_n_epochs=2` ends"
    ):
        fit(
            ToySSL(),
            [CollapseMonitor(every_n_epochs=2)],
            val=clean_loader(),
            max_epochs=5,
            check_val_every_n_epoch=3,
        )
    with pytest.warns(DiagnosticWarning, match="never looks"):
        fit(
            ToySSL(),
            [CollapseMonitor(every_n_epochs=2)],
            val=clean_loader(),
            train=view_loader(),
            max_epochs=3,
            check_val_every_n_epoch=None,
            val_check_interval=15,  # three epochs of five
        )
    fit(
        ToySSL(),
        [CollapseMonitor(every_n_epochs=2)],
        val=clean_loader(),
        max_epochs=4,
        check_val_every_n_epoch=4,
    )


def test_a_resumed_run_counts_the_epochs_before(tmp_path):
    arguments = {"val": clean_loader(), "check_val_every_n_epoch": 2}
    trainer, _ = fit(ToySSL(), [CollapseMonitor(every_n_epochs=2)], max_epochs=2, **arguments)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    # warnings are errors: of the one epoch that is left none is looked at
    fit(
        ToySSL(),
        [CollapseMonitor(every_n_epochs=2)],
        max_epochs=3,
        ckpt_path=tmp_path / "two.ckpt",
        **arguments,
    )
