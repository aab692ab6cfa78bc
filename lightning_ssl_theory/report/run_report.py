"""A Lightning callback that leaves report.html and run.json in the run folder, however the run ends."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from lightning_ssl_theory.report.logged_run import RUN_FILE
from lightning_ssl_theory.report.write import write_report, write_whole


class RunReport(Callback):
    """Writes the report of a fit at its end, also after an exception or Ctrl-C.

    It reads the metrics.csv of the Trainer's CSVLogger and writes beside it; without a CSVLogger it warns
    once and does nothing. It never fails a training: what goes wrong becomes one warning.

    Attributes:
        path: The written report, None until there is one.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self._started: float | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note the time."""
        self._started = time.time()
        if stage == "fit" and _csv_logger(trainer) is None and not _is_trial(trainer):
            self._warn(
                "expected a CSVLogger among the Trainer's loggers, found none; add one to get a report"
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the report of a fit that came to its end."""
        if stage == "fit":
            self._write(trainer, pl_module, "stopped early" if trainer.should_stop else "finished")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the report of a fit that was stopped."""
        if trainer.state.fn == "fit":
            is_stopped = isinstance(exception, KeyboardInterrupt)
            status = "interrupted" if is_stopped else f"failed: {type(exception).__name__}: {exception}"
            self._write(trainer, pl_module, status)

    def _write(self, trainer: Trainer, pl_module: LightningModule, status: str) -> None:
        logger = _csv_logger(trainer)
        if logger is None or _is_trial(trainer) or not trainer.is_global_zero:
            return
        try:
            logger.save()  # rows since the last flush
            folder = Path(logger.log_dir)
            if not (folder / "metrics.csv").is_file():
                return  # stopped before anything was logged
            facts = self._facts(trainer, pl_module, status)
            write_whole(folder / RUN_FILE, json.dumps(facts, indent=1))
            self.path = write_report(folder)
        except Exception as error:  # the training that just ended is worth more than its report
            self._warn(f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")

    def _facts(self, trainer: Trainer, pl_module: LightningModule, status: str) -> dict[str, Any]:
        started = self._started or time.time()
        return {
            "status": status,
            "started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started)),
            "seconds": round(time.time() - started, 1),
            "steps": trainer.global_step,
            "parameters": sum(parameter.numel() for parameter in pl_module.parameters()),
            "device": str(trainer.strategy.root_device),
            "processes": trainer.world_size,
            "left_out": _left_out(trainer),
            "network": str(pl_module),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
        }

    @staticmethod
    def _warn(sentence: str) -> None:
        warnings.warn(f"The run report was not written: {sentence}", stacklevel=3)


# What the diagnostics' last looks could not use, and why, by layer.
def _left_out(trainer: Trainer) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if layers := getattr(callback, "left_out", None):
            found.setdefault(type(callback).__name__, {}).update(layers)
    return found


def _csv_logger(trainer: Trainer) -> CSVLogger | None:
    return next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)


def _is_trial(trainer: Trainer) -> bool:
    return bool(getattr(trainer, "fast_dev_run", False))
