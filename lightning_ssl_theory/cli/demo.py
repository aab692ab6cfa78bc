"""The demo: three small models on handwritten digits, watched by all diagnostics, in two minutes on two cores."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from lightning_ssl_theory import callbacks
from lightning_ssl_theory.cli.run_folder import (
    finish_loggers,
    new_folder,
    release_folders,
    run_callbacks,
    run_loggers,
)
from lightning_ssl_theory.cli.wandb_run import WandbMode
from lightning_ssl_theory.data import DigitsDataModule
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.modules import ContrastiveSSL, OrthogonalSSL
from lightning_ssl_theory.networks import MLP, SmallConvNet
from lightning_ssl_theory.report import read_run, results_table, write_report
from lightning_ssl_theory.report.write import REPORT_FILE
from lightning_ssl_theory.warnings import DiagnosticWarning


def run_demo(
    *,
    name: str = "demo",
    output_dir: Path | str = "runs",
    seed: int = 0,
    wandb: WandbMode = "offline",
    is_quick: bool = False,
) -> Path:
    """Train a contrastive model, and two layers with and without orthonormal weights; report on all of them.

    Args:
        name: Name of the run folder; a number is added where a run has it already.
        output_dir: Where it goes.
        seed: Of weights, order and views.
        wandb: Whether Weights & Biases gets the runs.
        is_quick: Whether every model takes a few steps only.

    Returns:
        The report.
    """
    start = time.monotonic()
    console = Console()
    folder = new_folder(output_dir, name)
    with _quiet(console), _one_thread():
        try:
            for part in ("contrastive", "orthogonal", "unconstrained"):
                seed_everything(seed, verbose=False)
                _train(_setting(part, seed, is_quick=is_quick), folder, wandb, console)
        finally:
            # after Ctrl-C too; an error before the first logged value is the one to show
            if any(folder.glob("*/metrics.csv")):
                _show(folder, wandb, console)
            release_folders()
    console.print(f"Done in {time.monotonic() - start:.0f} s.", highlight=False)
    return folder / REPORT_FILE


class _Setting(NamedTuple):
    name: str
    model: LightningModule
    data: DigitsDataModule
    callbacks: list[Callback]
    max_epochs: int
    epochs_between_validations: int


def _setting(name: str, seed: int, *, is_quick: bool) -> _Setting:
    if name == "contrastive":
        data = DigitsDataModule(128, seed=seed)
        return _Setting(name, contrastive_model(), data, _contrastive_callbacks(), 2 if is_quick else 100, 2)
    model = OrthogonalSSL(64, 128, 8, constraint="stiefel" if name == "orthogonal" else "none", lr=0.02)
    data = DigitsDataModule(256, seed=seed)
    # without the constraint the outputs collapse within five epochs
    watchers = _orthogonal_callbacks(4 if name == "orthogonal" else 1)
    return _Setting(name, model, data, watchers, 2 if is_quick else 40, 1)


def contrastive_model() -> ContrastiveSSL:
    """The demo's contrastive model; without biases it is homogeneous in every layer's weights, as the theory has it."""
    return ContrastiveSSL(
        SmallConvNet(1, [16, 32, 64], bias=False),
        MLP([64, 128, 64], bias=False),
        InfoNCELoss(temperature=0.5),
        optimizer=_adam,
        scheduler=_to_zero,
    )


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=3e-3)


def _to_zero(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)


def _contrastive_callbacks() -> list[Callback]:
    features = ["backbone", "projector.activation_1"]
    return [
        callbacks.CovarianceOperators(every_n_steps=75, num_samples=64, spectra_layers=["backbone.conv_1"]),
        callbacks.NeuronSelectivity(features, every_n_epochs=4),
        callbacks.FeatureNormMonitor(["backbone.activation_1", *features], every_n_epochs=4),
        callbacks.LinearProbe("backbone", every_n_epochs=10),
        callbacks.CollapseMonitor(["backbone", "projector"], every_n_epochs=4),
    ]


def _orthogonal_callbacks(every_n_epochs: int) -> list[Callback]:
    layers = ["network.hidden", "network.output"]
    return [
        callbacks.CovarianceOperators(every_n_steps=16, num_samples=64),
        callbacks.NeuronSelectivity(layers, every_n_epochs=every_n_epochs),
        callbacks.FeatureNormMonitor(layers, every_n_epochs=every_n_epochs),
        callbacks.LinearProbe("network.output", every_n_epochs=every_n_epochs),
        callbacks.CollapseMonitor(["network.output"]),
        callbacks.OrthogonalityMonitor(layers, every_n_steps=1),
    ]


def _train(setting: _Setting, folder: Path, wandb: WandbMode, console: Console) -> None:
    own = folder / setting.name
    loggers = run_loggers(own, wandb, group=folder)
    watchers = [*setting.callbacks, _EpochBars(setting.name, console)]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=setting.max_epochs,
        logger=loggers,
        callbacks=[*watchers, *run_callbacks(own, watchers, has_progress_bar=False)],
        check_val_every_n_epoch=setting.epochs_between_validations,
        log_every_n_steps=4,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    is_success = False
    try:
        trainer.validate(setting.model, setting.data, verbose=False)  # the diagnostics before any training
        trainer.fit(setting.model, datamodule=setting.data)
        is_success = True
    finally:
        finish_loggers(loggers, is_success=is_success)


class _EpochBars(Callback):
    """One bar for a whole fit; epochs of half a second are too short for a bar each."""

    def __init__(self, name: str, console: Console) -> None:
        columns = (
            TextColumn("{task.description:14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, TextColumn("{task.fields[loss]}"), console=console)
        self._task = self._bar.add_task(name, loss="")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        self._bar.update(self._task, total=trainer.max_epochs)
        self._bar.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move on by an epoch."""
        loss = trainer.callback_metrics.get("train/loss")
        self._bar.update(self._task, advance=1, loss="" if loss is None else f"loss {float(loss):.3g}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar as it is."""
        self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The same."""
        self._bar.stop()


def _show(folder: Path, wandb: WandbMode, console: Console) -> None:
    report = write_report(folder)
    console.print(results_table(read_run(folder).parts), "", sep="\n")
    if wandb != "off":
        console.print(f"Weights & Biases: wandb leet {folder / 'wandb'}", soft_wrap=True, highlight=False)
    console.print(f"Report: {report}", soft_wrap=True, highlight=False)


# Matrices of a few hundred rows gain nothing from a second thread, and threads that wait for each other on a busy
# machine make such a run five times as long.
@contextmanager
def _one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(num_threads)


# Lightning's hints are about long runs and other people's models; what the diagnostics say is kept, a line each.
@contextmanager
def _quiet(console: Console) -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", category=DiagnosticWarning)
            warnings.filterwarnings("always", message="Stopped at step")
            warnings.filterwarnings("always", message="The run report")
            warnings.showwarning = lambda message, *rest: console.print(f"[dim]{message}[/]", highlight=False)
            yield
    finally:
        logger.setLevel(level)
