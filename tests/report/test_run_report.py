"""RunReport under a real Trainer: after a fit, an exception and Ctrl-C, and never failing one."""

import json
import warnings
from typing import ClassVar

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from lightning_ssl_theory.report import RunReport


class Tiny(LightningModule):
    def __init__(self, stop_with=None):
        super().__init__()
        self.layer = torch.nn.Linear(9, 2)
        self.stop_with = stop_with

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss)
        if self.stop_with and batch_idx == 2:
            raise self.stop_with
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, module, others=(), **kwargs):
    report = RunReport()
    logger = CSVLogger(folder.parent, name=folder.name, version="")
    settings = {"logger": logger, "max_epochs": 1, "log_every_n_steps": 1, "accelerator": "cpu", **kwargs}
    trainer = Trainer(
        callbacks=[*others, report], enable_progress_bar=False, enable_model_summary=False, **settings
    )
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*(does not have many workers|checkpoint directory|Experiment logs).*"
        )
        trainer.fit(module, DataLoader(torch.ones(4, 9)))
    return report


def test_report_is_there_after_a_fit(tmp_path):
    folder = tmp_path / "run"
    report = fit(folder, Tiny(), default_root_dir=folder)
    assert report.path == folder / "report.html"
    assert "train/loss" in report.path.read_text()
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["status"], facts["steps"], facts["parameters"]) == ("finished", 4, 20)


@pytest.mark.parametrize(
    ("error", "raised", "status"),
    [
        (RuntimeError("boom"), RuntimeError, "failed: RuntimeError: boom"),
        (KeyboardInterrupt(), SystemExit, "interrupted"),
    ],
    ids=["exception", "ctrl-c"],
)
def test_report_is_there_after_an_early_end(tmp_path, error, raised, status):
    with pytest.raises(raised):
        fit(tmp_path / "run", Tiny(error), enable_checkpointing=False)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == status
    assert "train/loss" in (tmp_path / "run" / "report.html").read_text()


def test_a_failing_report_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_ssl_theory.report.run_report.write_report", lambda folder: 1 / 0)
    with pytest.warns(UserWarning, match=r"The run report was not written: ZeroDivisionError"):
        report = fit(tmp_path / "run", Tiny(), enable_checkpointing=False)
    assert report.path is None


def test_layers_that_a_diagnostic_left_out_are_written_down(tmp_path):
    class LeavesOut(Callback):
        left_out: ClassVar = {"layer": "<b>no</b> output."}

    fit(tmp_path / "run", Tiny(), enable_checkpointing=False, others=[LeavesOut()])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["left_out"] == {
        "LeavesOut": {"layer": "<b>no</b> output."}
    }
    html = (tmp_path / "run" / "report.html").read_text()
    assert "LeavesOut left out layer: &lt;b&gt;no&lt;/b&gt; output." in html


def test_no_csv_logger_is_a_warning(tmp_path):
    with pytest.warns(UserWarning, match=r"expected a CSVLogger .* found none; add one"):
        fit(tmp_path / "run", Tiny(), logger=False, enable_checkpointing=False)


def test_a_trial_run_leaves_nothing(tmp_path):
    assert fit(tmp_path / "run", Tiny(), fast_dev_run=1).path is None
    assert not (tmp_path / "run").exists()
