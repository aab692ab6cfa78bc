"""`fit`, `validate` and `test`: Lightning's command line, with this library's classes by name and a run folder."""

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import get_loader, set_loader
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.console import Console

from lightning_ssl_theory import callbacks, data, losses, modules, networks
from lightning_ssl_theory.cli.refusals import explain, fail, refused_by_class
from lightning_ssl_theory.cli.run_folder import (
    continue_metrics,
    finish_loggers,
    free_folder,
    run_callbacks,
    run_loggers,
)
from lightning_ssl_theory.cli.wandb_run import WandbMode
from lightning_ssl_theory.report import read_run, results_table, write_report

_YAML_MODE = "yaml_with_short_names"
# what YAML may call by its bare name, also where another library has a class of the same name
_SHORT_NAMES = {
    name: f"{package.__name__}.{name}"
    for package in (callbacks, data, losses, modules, networks)
    for name in package.__all__
}


def run_training(arguments: Sequence[str] | None = None) -> None:
    """Run `fit`, `validate` or `test`.

    Args:
        arguments: The subcommand and its options; the process' own by default, which several processes on one
            machine need, since the first starts the others with its own.

    Raises:
        SystemExit: With code 2 on bad input, with code 1 after Ctrl-C.
        ValueError: As training raises it.
    """
    set_loader(_YAML_MODE, _load_with_short_names, (yaml.YAMLError,))
    settings = {"parser_mode": _YAML_MODE, "exit_on_error": False}
    try:
        with _without_hints():
            TrainingCLI(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                seed_everything_default=0,
                parser_kwargs={**settings, **{name: dict(settings) for name in TrainingCLI.subcommands()}},
                save_config_callback=_SaveConfig,
                save_config_kwargs={"overwrite": True},
                args=None if arguments is None else list(arguments),
            )
    except argparse.ArgumentError as error:
        given = sys.argv[1:] if arguments is None else arguments
        fail(explain(error.message, arguments=given, keys=_keys(given[0]), short_names=_SHORT_NAMES))
    except ValueError as error:
        if sentence := refused_by_class(str(error)):
            fail(sentence)
        raise
    except MisconfigurationException as error:
        fail(str(error))


class TrainingCLI(LightningCLI):
    """Lightning's command line, which starts a run folder and ends with a table and a report."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Returns the commands that make sense for representations, with the arguments they hide."""
        hidden = LightningCLI.subcommands()
        return {name: hidden[name] for name in ("fit", "validate", "test")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that say where the run goes."""
        parser.add_argument(
            "--name", type=str | None, default=None, help="Name of the run folder; the configuration file's."
        )
        parser.add_argument("--output_dir", type=str, default="runs", help="Folder of the run folders.")
        parser.add_argument(
            "--wandb",
            type=WandbMode,
            default="offline",
            help="Whether Weights & Biases gets the run: sent, kept in files, or not at all.",
        )

    def before_instantiate_classes(self) -> None:
        """Check, before anything is built, that the checkpoint to start from is there."""
        path = self.config[self.subcommand].get("ckpt_path")
        # "best", "last" and "hpc" are Lightning's own words
        if path and path not in {"best", "last", "hpc"} and "://" not in path and not Path(path).is_file():
            fail(f"Expected a checkpoint at `{path}`, found nothing; pass --ckpt_path an existing file.")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Returns the trainer, with the run's folder, loggers and standing callbacks."""
        settings = self.config_init[self.subcommand]["trainer"]
        if not settings["fast_dev_run"]:
            folder = free_folder(self.config_init[self.subcommand]["output_dir"], self._run_name())
            given = settings["callbacks"] or []
            self.trainer_defaults["callbacks"] = run_callbacks(
                folder,
                given if isinstance(given, list) else [given],
                has_checkpoints=self.subcommand == "fit" and settings["enable_checkpointing"] is not False,
                has_progress_bar=settings["enable_progress_bar"] is not False,
            )
            kwargs.setdefault("default_root_dir", settings["default_root_dir"] or folder)
            if settings["logger"] is None:
                kwargs["logger"] = run_loggers(folder, self.config_init[self.subcommand]["wandb"])
                checkpoint = self.config[self.subcommand].get("ckpt_path")
                if self.subcommand == "fit" and checkpoint and Path(checkpoint).is_file():
                    continue_metrics(kwargs["logger"][0], Path(checkpoint))
        return super().instantiate_trainer(**kwargs)

    def fit(self, **kwargs: Any) -> None:
        """Train; however it ends, close the loggers and show what is there."""
        is_success = False
        try:
            self.trainer.fit(**kwargs)
            is_success = True
        finally:
            finish_loggers(self.trainer.loggers, is_success=is_success)
            _show_results(self.trainer)

    def _run_name(self) -> str:
        settings = self.config[self.subcommand]
        files = settings.get("config") or []
        stem = Path(str(files[-1])).stem if files else "run"
        default = stem if self.subcommand == "fit" else f"{stem}-{self.subcommand}"
        return settings.get("name") or default


class _SaveConfig(SaveConfigCallback):
    """Keeps the configuration in the run folder, and with the run at Weights & Biases."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        settings = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(settings)


def _show_results(trainer: Trainer) -> None:
    folder = Path(trainer.loggers[0].log_dir or "") if trainer.loggers else None
    if folder is None or not trainer.is_global_zero or not (folder / "metrics.csv").is_file():
        return
    # again, since ModelCheckpoint may have saved after RunReport wrote the page
    report = write_report(folder)
    console = Console()
    console.print(results_table([read_run(folder)]))
    console.print(f"Report: {report}", soft_wrap=True, highlight=False)


# Without what Lightning says of other products, of its own code, and of the run folder, which is meant to hold files.
@contextmanager
def _without_hints() -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(_is_no_tip)
    try:
        with warnings.catch_warnings():
            for start in ("Experiment logs directory", "`isinstance\\(treespec", "The dirpath has changed"):
                warnings.filterwarnings("ignore", message=start)
            yield
    finally:
        logger.removeFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


def _load_with_short_names(text: str) -> Any:
    return _with_full_paths(get_loader("yaml")(text))


def _with_full_paths(settings: Any) -> Any:
    if isinstance(settings, list):
        return [_with_full_paths(item) for item in settings]
    if not isinstance(settings, dict):
        return settings
    found = {key: _with_full_paths(value) for key, value in settings.items()}
    name = found.get("class_path")
    if isinstance(name, str):
        found["class_path"] = _SHORT_NAMES.get(name, name)
    return found


def _keys(subcommand: str) -> list[str]:
    keys = [
        "config",
        "seed_everything",
        "trainer",
        "model",
        "data",
        "name",
        "output_dir",
        "wandb",
        "ckpt_path",
    ]
    return keys + ["verbose"] * (subcommand != "fit")
