"""What of a diagnostic other callbacks see: its keys in the trainer, and what stands where a look was left out.

A ModelCheckpoint and a ReduceLROnPlateau end the run when the key that they watch is missing, an EarlyStopping when it
is missing or NaN. For all three NaN counts as no improvement, once EarlyStopping does not check for it. So NaN stands
for the missing value of a watched key; of a key that nobody watches nothing is left.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from .metric_names import MetricNames


def callbacks_of(trainer: Trainer) -> list[Any]:
    """The callbacks of a run, of any kind."""
    return list(vars(trainer)["callbacks"])


def earlier(trainer: Trainer, callback: Any) -> list[Any]:
    """The callbacks of the same class that come before one."""
    callbacks = callbacks_of(trainer)
    index = next(index for index, other in enumerate(callbacks) if other is callback)
    return [other for other in callbacks[:index] if type(other) is type(callback)]


def watched_keys(trainer: Trainer, prefix: str) -> set[str]:
    """The keys under a prefix that a ModelCheckpoint, EarlyStopping or scheduler of the run follows."""
    keys = {getattr(callback, "monitor", None) for callback in callbacks_of(trainer)}
    keys |= {config.monitor for config in trainer.lr_scheduler_configs if config.reduce_on_plateau}
    return {key for key in keys if isinstance(key, str) and key.startswith(f"{prefix}/")}


def prepare_monitors(trainer: Trainer, prefix: str) -> set[str]:
    """Let no monitor end the run for want of a value.

    Args:
        trainer: Whose callbacks and schedulers are looked through.
        prefix: What the keys of a diagnostic begin with.

    Returns:
        The keys that are watched and have no value yet: NaN stands for it.
    """
    missing = watched_keys(trainer, prefix) - trainer.callback_metrics.keys()
    for stopper in callbacks_of(trainer):
        key = getattr(stopper, "monitor", None)
        if isinstance(key, str) and key.startswith(f"{prefix}/") and getattr(stopper, "check_finite", False):
            stopper.check_finite = False
            rank_zero_info(
                f"{type(stopper).__name__} takes a look at {key!r} that is left out, or not taken yet, for no "
                "improvement: NaN stands for the missing value, and its `check_finite` is False from here on. "
                "Pass `check_finite=False` to say so yourself."
            )
    clear(trainer, missing)
    return missing


def drop_unknown(trainer: Trainer, prefix: str, values: Mapping[str, float]) -> None:
    """Leave watched keys that no first look gave to Lightning's own sentence, once all have looked that may log them.

    Args:
        trainer: Whose callbacks are looked through.
        prefix: What the keys of the diagnostic that looks for the first time begin with.
        values: What it has found.
    """
    sources = [c for c in callbacks_of(trainer) if getattr(c, "section", None) == prefix.split("/")[0]]
    found = [source.values for source in sources if source.values]
    if len(found) >= len(sources) - 1:  # the one that looks now has no values yet
        for key in watched_keys(trainer, prefix) - values.keys() - {key for one in found for key in one}:
            trainer.callback_metrics.pop(key, None)


def publish(trainer: Trainer, values: Mapping[str, float]) -> None:
    """Show values to the callbacks and schedulers of a run."""
    tensors = {key: torch.tensor(value) for key, value in values.items()}
    trainer.callback_metrics.update(tensors)
    trainer.logged_metrics.update(tensors)


def clear(trainer: Trainer, keys: Iterable[str]) -> None:
    """Forget the values of keys whose look was due and failed."""
    for key in keys:
        trainer.logged_metrics.pop(key, None)
        if watched_keys(trainer, key.rsplit("/", 1)[0]) & {key}:
            trainer.callback_metrics[key] = torch.tensor(math.nan)
        else:
            trainer.callback_metrics.pop(key, None)


def log(
    trainer: Trainer, pl_module: LightningModule, values: Mapping[str, float], names: MetricNames
) -> None:
    """Give values to every logger at the present step, and show them; `trainer.validate` returns them."""
    names.announce(trainer.loggers, list(values), _other_names(trainer, names))
    if trainer.state.fn != "fit":
        # equal on all ranks, so that the maximum changes nothing, and Lightning does not ask for it key by key
        pl_module.log_dict(dict(values), sync_dist=True, reduce_fx="max")
        return
    for logger in trainer.loggers:
        logger.log_metrics(names.for_logger(logger, values), step=trainer.global_step)
    publish(trainer, values)


# what the module logs, and what the other diagnostics have announced
def _other_names(trainer: Trainer, names: MetricNames) -> set[str]:
    others: list[MetricNames] = [
        callback.metric_names
        for callback in callbacks_of(trainer)
        if hasattr(callback, "metric_names") and callback.metric_names is not names
    ]
    left_out = {name for other in (names, *others) for name in other.left_out}
    return (set(trainer.logged_metrics) - left_out).union(*(other.sent for other in others))
