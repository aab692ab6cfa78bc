"""Checkpoints from which a run goes on as if it had never stopped, wherever in an epoch they were written."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_ssl_theory.cli.run_metrics import RunMetrics

# Beside the callbacks' states, which Lightning's own Trainer asks to be given the callbacks of.
ROWS = "lightning_ssl_theory.rows"
# A validation that has begun its first batch: Lightning runs such a one again as a whole.
_BEGUN = {"ready": 1, "started": 1, "processed": 0, "completed": 0}


class ResumePoint(Callback):
    """Adds to every checkpoint of a fit what Lightning's own leaves out.

    Callbacks save before Lightning logs the step or the epoch, so that the row is lost to a run that goes on from
    there; it is kept, and logged when training goes on. A checkpoint after an error inside a step counts the batch as
    seen; here it comes again. A checkpoint of the step before a validation, or in the
    middle of one, lets Lightning pass over that validation; here it is run as a whole.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Any] | None = None
        self._is_validating = False

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the number of rows, the row that is yet to be logged, and the place before a validation."""
        if trainer.state.fn != "fit":
            return
        logger = next((logger for logger in trainer.loggers if isinstance(logger, RunMetrics)), None)
        checkpoint[ROWS] = {
            "num_rows": None if logger is None else logger.num_rows,
            "pending": _row_to_come(trainer),
        }
        if not trainer.validating and _is_inside_step(trainer):
            _place_before_step(trainer, checkpoint["loops"]["fit_loop"])
        if self._is_validating or (at_step_end(trainer) and validation_is_due(trainer)):
            progress = checkpoint["loops"]["fit_loop"]
            for counts in progress["epoch_loop.batch_progress"].values():
                if isinstance(counts, dict):
                    counts["completed"] = counts["processed"]
            validation = progress["epoch_loop.val_loop.batch_progress"]
            validation |= {"total": dict(_BEGUN), "current": dict(_BEGUN)}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that a validation is to be run again."""
        self._is_validating = not trainer.sanity_checking

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that it is done; ModelCheckpoint saves after this."""
        self._is_validating = False

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the row for the start of training."""
        self._pending = checkpoint.get(ROWS, {}).get("pending")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the stopped run was about to log."""
        if self._pending is not None:
            for logger in trainer.loggers:
                logger.log_metrics(dict(self._pending["metrics"]), step=self._pending["step"])
        self._pending = None


def at_step_end(trainer: Trainer) -> bool:
    """Whether callbacks are at the end of a training batch.

    Args:
        trainer: In a fit.

    Returns:
        False in validation, at the end of an epoch, and inside a step.
    """
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    return bool(batches.ready == batches.processed == batches.completed + 1)


def validation_is_due(trainer: Trainer) -> bool:
    """Whether Lightning validates after this training batch.

    Args:
        trainer: At the end of a training batch.

    Returns:
        The same on all ranks.
    """
    loop = trainer.fit_loop
    return loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def _is_inside_step(trainer: Trainer) -> bool:
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    return bool(batches.ready > batches.processed)


def _place_before_step(trainer: Trainer, progress: dict[str, Any]) -> None:
    batches = progress["epoch_loop.batch_progress"]
    batches["is_last_batch"] = False
    progress["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1  # Lightning adds one when it goes on
    for loader in progress["state_dict"].get("combined_loader", ()):
        if loader.keys() == {"epoch", "batch"}:  # one of ours
            epochs: Any = trainer.fit_loop.epoch_progress.current
            loader |= {"epoch": epochs.processed, "batch": batches["current"]["processed"]}


def _row_to_come(trainer: Trainer) -> dict[str, Any] | None:
    loop, connector = trainer.fit_loop, trainer._logger_connector
    epochs: Any = loop.epoch_progress.current
    is_epoch_end = epochs.processed > epochs.completed
    if trainer.validating or not (at_step_end(trainer) or is_epoch_end):
        return None
    if at_step_end(trainer) and (loop._should_accumulate() or not connector.should_update_logs):
        return None
    values = {key: float(value) for key, value in connector.metrics["log"].items()}
    if not values:
        return None
    # Lightning steps back by one at the end of an epoch
    step = values.pop("step", loop.epoch_loop._batches_that_stepped - (not at_step_end(trainer)))
    return {"step": int(step), "metrics": {**values, "epoch": trainer.current_epoch}}
