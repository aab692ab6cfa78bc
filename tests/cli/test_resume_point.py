"""From a checkpoint of any moment a run ends in the same weights, and all it logs is what one run would have logged."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger

from cli.command_line import WITHOUT_ADVICE
from lightning_ssl_theory.callbacks import CollapseMonitor, OrthogonalityMonitor
from lightning_ssl_theory.cli.resume_point import ResumePoint
from lightning_ssl_theory.data import DigitsDataModule
from lightning_ssl_theory.modules import OrthogonalSSL

pytestmark = WITHOUT_ADVICE


class Rows(CSVLogger):
    """What was logged, without the time it took."""

    def __init__(self):
        super().__init__("unused")
        self.rows = []

    def log_metrics(self, metrics, step=None):
        values = {key: float(value) for key, value in metrics.items() if not key.startswith("overhead/")}
        self.rows.append((step, tuple(sorted(values.items()))))

    def save(self):
        pass


class SaveEverywhere(Callback):
    """A checkpoint at every hook, with the number of rows before it."""

    def __init__(self, rows):
        self.rows, self.num_rows = rows, {}

    def save(self, trainer, hook):
        name = f"{len(self.num_rows):02}-{hook}-{trainer.global_step}.ckpt"
        self.num_rows[name] = len(self.rows)
        trainer.save_checkpoint(Path(name))

    def on_train_batch_start(self, trainer, *rest):
        if trainer.global_step:  # the look at the untrained network is part of the first step
            self.save(trainer, "inside-a-step")

    def on_train_batch_end(self, trainer, *rest):
        self.save(trainer, "step-end")

    def on_validation_batch_end(self, trainer, *rest):
        self.save(trainer, "inside-a-validation")

    def on_validation_end(self, trainer, pl_module):
        self.save(trainer, "validation-end")

    def on_train_epoch_end(self, trainer, pl_module):
        self.save(trainer, "epoch-end")


def trained(*, saves=False, ckpt_path=None, **settings):
    seed_everything(0, verbose=False)
    logger = Rows()
    saver = SaveEverywhere(logger.rows)
    looks = [OrthogonalityMonitor(["network.hidden"], every_n_steps=1), CollapseMonitor(["network.output"])]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=logger,
        callbacks=[*looks, ResumePoint(), *[saver] * saves],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **settings,
    )
    module = OrthogonalSSL(64, 64, 8, constraint="stiefel", lr=0.02)
    trainer.fit(module, datamodule=DigitsDataModule(399), ckpt_path=ckpt_path)
    return module.state_dict(), logger.rows, saver.num_rows


@pytest.mark.parametrize(
    "settings",
    [
        {"log_every_n_steps": 1},
        {"log_every_n_steps": 3, "val_check_interval": 1},
        {"log_every_n_steps": 1, "check_val_every_n_epoch": 2},
    ],
    ids=["every-epoch", "inside-epochs", "every-second-epoch"],
)
def test_every_moment(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights, rows, places = trained(saves=True, **settings)
    assert len(places) > 12
    for name, num_rows in places.items():
        resumed, later, _ = trained(ckpt_path=name, **settings)
        assert all(torch.equal(resumed[key], weights[key]) for key in weights), name
        assert sorted(rows[:num_rows] + later) == sorted(rows), name
