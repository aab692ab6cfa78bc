"""`fit`, `validate` and `test`: Lightning's command line, with this library's classes by name and a run folder."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml  # type: ignore[import-untyped]
from jsonargparse import get_loader, set_loader
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.console import Console

from lightning_ssl_theory import callbacks, data, losses, modules, networks
from lightning_ssl_theory.cli.checkpoints import Checkpoint, newest_checkpoint, read_checkpoint, remove_cut
from lightning_ssl_theory.cli.config_faults import first_fault, place_of_refusal
from lightning_ssl_theory.cli.evaluation import silent_diagnostics, value_lines
from lightning_ssl_theory.cli.given_settings import GivenSettings, given_settings
from lightning_ssl_theory.cli.quiet_terminal import quiet_terminal
from lightning_ssl_theory.cli.refusals import PROGRAM, fail, refused_by_class
from lightning_ssl_theory.cli.run_folder import (
    finish_loggers,
    is_first_process,
    new_folder,
    release_folders,
    run_callbacks,
    run_loggers,
    run_of_name,
)
from lightning_ssl_theory.cli.run_metrics import RunMetrics, rows_until
from lightning_ssl_theory.cli.saved_config import SavedConfig
from lightning_ssl_theory.cli.stop_signals import restored_signals
from lightning_ssl_theory.cli.wandb_run import WandbMode, usual_mode
from lightning_ssl_theory.cli.yaml_values import register_tensors
from lightning_ssl_theory.report import RunFolderError, read_run, results_table, write_report
from lightning_ssl_theory.report.write import is_full

_MAX_LENGTH = 400
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
        OSError: As RuntimeError and ValueError, when training raises it.
        RuntimeError: See above.
        ValueError: See above.
    """
    subcommand, *options = sys.argv[1:] if arguments is None else arguments
    given = _given(options)
    register_tensors()
    set_loader(_YAML_MODE, _load_with_short_names, (yaml.YAMLError,))
    settings = {"parser_mode": _YAML_MODE, "exit_on_error": False, "allow_abbrev": False}
    try:
        with quiet_terminal():
            TrainingCLI(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                seed_everything_default=0,
                parser_kwargs={
                    "prog": PROGRAM,
                    **settings,
                    **{name: dict(settings) for name in TrainingCLI.subcommands()},
                },
                save_config_callback=SavedConfig,
                save_config_kwargs={"overwrite": True},
                args=None if arguments is None else list(arguments),
            )
    except argparse.ArgumentError as error:
        fault = first_fault(given, _keys(subcommand), _SHORT_NAMES, _YAML_MODE)
        fail(fault or " ".join(error.message.split())[:_MAX_LENGTH])
    except ValueError as error:
        if (sentence := refused_by_class(str(error))) is None:
            raise
        fail(f"{place_of_refusal(sentence, given, _YAML_MODE)}{sentence}")
    except MisconfigurationException as error:
        fail(str(error))
    except OSError as error:
        if not is_full(error):
            raise
        fail(
            f"Expected room for the run's files, found: {error.strerror}; make room on the disk, and go on with "
            "--ckpt_path last."
        )
    except RuntimeError as error:
        if not str(error).startswith("Error(s) in loading state_dict"):
            raise
        fail(
            f"Expected a checkpoint of the configured model, found one of another: {str(error)[:300]}; "
            "pass the configuration that it was trained with, which lies in its run folder."
        )
    finally:
        release_folders()


class TrainingCLI(LightningCLI):
    """Lightning's command line, which starts or continues a run folder and ends with a table and a report."""

    _folder: Path | None = None
    _checkpoint: Checkpoint | None = None

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
            default=usual_mode(),
            help="Whether Weights & Biases gets the run: sent, kept in files, or not at all.",
        )

    def before_instantiate_classes(self) -> None:
        """Check, before anything is built, that the checkpoint to start from can be used."""
        given = self.config[self.subcommand].get("ckpt_path")
        if given == "best" or (given == "last" and self.subcommand != "fit"):
            fail(
                f"Expected --ckpt_path to be a file{' or `last`' * (self.subcommand == 'fit')}, got `{given}`, which a "
                "new process does not know; pass a file of runs/NAME/checkpoints."
            )
        # the others are Lightning's own words
        if given and given not in {"last", "hpc"} and "://" not in given:
            self._checkpoint = read_checkpoint(Path(given), self.subcommand)
        if given == "last":
            # where a run is continued is not part of its configuration
            self.config[self.subcommand]["ckpt_path"] = None
            self._folder = run_of_name(self.config[self.subcommand]["output_dir"], self._run_name())

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Returns the trainer, with the run's folder, loggers and standing callbacks."""
        options = self.config_init[self.subcommand]
        settings = options["trainer"]
        if not settings["fast_dev_run"]:
            given = settings["callbacks"] or []
            given = given if isinstance(given, list) else [given]
            folder = self._folder or new_folder(options["output_dir"], self._run_name())
            # its configuration tells where it lies, so that it can be continued from there
            self.config[self.subcommand]["name"] = str(Path(self._run_name()).with_name(folder.name))
            if self._folder is not None:
                self._checkpoint = newest_checkpoint(folder, given)
            self.trainer_defaults["callbacks"] = run_callbacks(
                folder,
                given,
                has_checkpoints=self.subcommand == "fit" and settings["enable_checkpointing"] is not False,
                has_progress_bar=settings["enable_progress_bar"] is not False,
            )
            kwargs.setdefault("default_root_dir", settings["default_root_dir"] or folder)
            if settings["logger"] is None:
                kwargs["logger"] = run_loggers(
                    folder, options["wandb"], is_continued=self._folder is not None
                )
                if self.subcommand == "fit" and self._checkpoint is not None:
                    _continue_metrics(kwargs["logger"][0], self._checkpoint)
        return super().instantiate_trainer(**kwargs)

    def fit(self, **kwargs: Any) -> None:
        """Train; however it ends, close the loggers and show what is there."""
        is_success = False
        if self._checkpoint is not None:
            kwargs["ckpt_path"] = self._checkpoint.path
        try:
            with restored_signals():
                self.trainer.fit(**kwargs)
            is_success = True
        except OSError as error:
            if is_full(error) and self.trainer.is_global_zero:
                remove_cut(Path(self.trainer.default_root_dir))
            raise
        finally:
            finish_loggers(self.trainer.loggers, is_success=is_success)
            _show_results(self.trainer)

    def validate(self, **kwargs: Any) -> None:
        """Validate, print every value, and name the diagnostics that had nothing to look at."""
        self._evaluate("validate", **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Test likewise."""
        self._evaluate("test", **kwargs)

    def _evaluate(self, command: Literal["validate", "test"], *, verbose: bool = True, **kwargs: Any) -> None:
        is_success = False
        try:
            found = getattr(self.trainer, command)(verbose=False, **kwargs)
            is_success = True
        finally:
            finish_loggers(self.trainer.loggers, is_success=is_success)
        if self.trainer.is_global_zero:
            for line in [
                *(value_lines(found) if verbose else ()),
                *silent_diagnostics(self.trainer, command),
            ]:
                print(line)

    # Lightning's merges the hyperparameters of the checkpoint into the configuration, which fails in 2.5.5 and 2.5.6
    def _parse_ckpt_path(self) -> None:
        return None

    def _run_name(self) -> str:
        settings = self.config[self.subcommand]
        files = settings.get("config") or []
        stem = Path(str(files[-1])).stem if files else "run"
        default = stem if self.subcommand == "fit" else f"{stem}-{self.subcommand}"
        return settings.get("name") or default


def _continue_metrics(logger: RunMetrics, checkpoint: Checkpoint) -> None:
    rows = rows_until(checkpoint.metrics, num_rows=checkpoint.num_rows, last_step=checkpoint.step)
    if rows and is_first_process():
        logger.start_from(rows)


def _show_results(trainer: Trainer) -> None:
    folder = Path(trainer.loggers[0].log_dir or "") if trainer.loggers else None
    if folder is None or not trainer.is_global_zero or not (folder / "metrics.csv").is_file():
        return
    # again, since ModelCheckpoint may have saved after RunReport wrote the page
    console = Console()
    try:
        report = write_report(folder)
    except RunFolderError as error:  # training is worth more, and what ended it is to be seen
        console.print(f"No report: {error}", soft_wrap=True, highlight=False)
        return
    console.print(results_table([read_run(folder)]))
    console.print(f"Report: {report}", soft_wrap=True, highlight=False)


def _given(options: Sequence[str]) -> GivenSettings:
    given = given_settings(options)
    return given._replace(settings=_with_full_paths(given.settings))


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
