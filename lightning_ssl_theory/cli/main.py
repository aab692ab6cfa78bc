"""The command line: `lightning-ssl-theory demo | fit | validate | test | report | dashboard | doctor`.

What is heavy is imported by the subcommand that needs it, so that help and errors come at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from lightning_ssl_theory import __version__
from lightning_ssl_theory.cli.refusals import PROGRAM, exit_on_bad_input, fail, nearest
from lightning_ssl_theory.cli.training_help import training_help

_COMMANDS = {
    "demo": "train three small models on handwritten digits, watched by all diagnostics: two minutes, no download",
    "fit": "train a model from a YAML configuration",
    "validate": "run the validation of a model, with the diagnostics that look at validation images",
    "test": "run the test of a model",
    "report": "write the report of a run folder again",
    "dashboard": "save a view of a project at Weights & Biases, made of what its runs have logged",
    "doctor": "look at this machine: versions, devices, data, Weights & Biases, and what is missing for what",
}
_TRAINING = ("fit", "validate", "test")


def main(args: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        args: What follows the program's name; that of the process by default.

    Raises:
        SystemExit: With code 2 and one sentence on bad input, with code 130 after Ctrl-C and 143 after
            SIGTERM.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
        fail(f"Expected a command, got {arguments[0]!r}; {nearest(arguments[0], _COMMANDS)}.")
    try:
        with exit_on_bad_input():
            _run(arguments, is_own=args is None)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except SystemExit as error:
        # Lightning turns both into an exit with code 1
        stopped = error.__context__
        if isinstance(stopped, KeyboardInterrupt):
            raise SystemExit(143 if type(stopped).__name__ == "Terminated" else 130) from None
        raise SystemExit(error.code) from None


def _run(arguments: list[str], *, is_own: bool) -> None:
    if arguments and arguments[0] in _TRAINING:
        _train(arguments, is_own=is_own)
        return
    parser, commands = _parsers()
    options, unknown = parser.parse_known_args(arguments or ["--help"])
    if unknown:
        found = unknown[0].split("=")[0]
        valid = [name for action in commands[options.command]._actions for name in action.option_strings]
        fail(f"Expected an option of `{PROGRAM} {options.command}`, got {found!r}; {nearest(found, valid)}.")
    _RUNNERS[options.command](options)


def _train(arguments: list[str], *, is_own: bool) -> None:
    command, *options = arguments
    if asked := [option for option in options if option in {"-h", "--help"} or option.startswith("--help=")]:
        if asked[0] != "--help=all":
            if asked[0].startswith("--help="):
                fail(f"Expected --help or --help=all, got {asked[0]!r}; choose one.")
            print(training_help(command))
            return
        arguments, is_own = [command, "--help"], False
    # a class of one's own is found where the command is called, as by `python -m`
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    # LightningCLI has a parser of its own
    from lightning_ssl_theory.cli.fit import run_training

    run_training(None if is_own else arguments)


def _report(options: argparse.Namespace) -> None:
    from lightning_ssl_theory.report import write_comparison, write_report

    folder, *others = options.folder
    written = (
        write_comparison(options.folder, options.output) if others else write_report(folder, options.output)
    )
    print(f"Report: {written}")


def _demo(options: argparse.Namespace) -> None:
    from lightning_ssl_theory.cli.demo import run_demo
    from lightning_ssl_theory.cli.wandb_run import usual_mode

    run_demo(
        name=options.name,
        output_dir=options.output_dir,
        seed=options.seed,
        wandb=options.wandb or usual_mode(),
        is_quick=options.quick,
    )


def _dashboard(options: argparse.Namespace) -> None:
    from lightning_ssl_theory.cli.dashboard import run_dashboard

    run_dashboard(options.folder, entity=options.entity, project=options.project, is_dry_run=options.dry_run)


def _doctor(options: argparse.Namespace) -> None:
    from lightning_ssl_theory.cli.doctor import run_doctor

    if not run_doctor(options.data_dir, options.output_dir):
        raise SystemExit(1)


_RUNNERS: dict[str, Callable[[argparse.Namespace], None]] = {
    "report": _report,
    "demo": _demo,
    "dashboard": _dashboard,
    "doctor": _doctor,
}


class _OneColumn(argparse.HelpFormatter):
    """Lets the texts of all commands begin below each other."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=16)
        self._action_max_length = 13  # argparse forgets that commands are indented


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        fail(f"{message}; see `{self.prog} --help`.")


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = _Parser(
        prog=PROGRAM,
        description="Train self-supervised models, and see why they learn what they learn.",
        formatter_class=_OneColumn,
        epilog=f"`{PROGRAM} COMMAND --help` lists the options of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    found: dict[str, argparse.ArgumentParser] = {
        name: commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        for name, text in _COMMANDS.items()
    }
    _add_demo_options(found["demo"])
    report, dashboard, doctor = (found[name] for name in ("report", "dashboard", "doctor"))
    several_help = "run folder, or a folder of run folders, such as runs/demo; several side by side"
    report.add_argument("folder", type=Path, nargs="+", help=several_help)
    output_help = "file to write (default: report.html in the folder; comparison.html here for several)"
    report.add_argument("--output", type=Path, help=output_help)
    folder_help = "run folder whose names are shown (default: the newest runs of the project)"
    dashboard.add_argument("folder", type=Path, nargs="?", metavar="RUN_DIR", help=folder_help)
    dashboard.add_argument("--entity", help="user or team (default: WANDB_ENTITY, else who is logged in)")
    dashboard.add_argument("--project", help="project (default: WANDB_PROJECT, else lightning-ssl-theory)")
    dry_help = "print the view's JSON and save nothing; with RUN_DIR it needs no network"
    dashboard.add_argument("--dry-run", action="store_true", help=dry_help)
    doctor.add_argument("--data-dir", default="data", type=Path, help="where data sets lie (default: data)")
    doctor.add_argument("--output-dir", default="runs", type=Path, help="where runs lie (default: runs)")
    return parser, found


def _add_demo_options(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--name", default="demo", help="name of the run folder (default: demo)")
    demo.add_argument("--output-dir", default="runs", type=Path, help="where it goes (default: runs)")
    demo.add_argument("--seed", default=0, type=int, help="seed of weights, order and views (default: 0)")
    wandb_help = "whether Weights & Biases gets the run (default: WANDB_MODE, else offline)"
    demo.add_argument("--wandb", choices=("online", "offline", "off"), help=wandb_help)
    quick_help = "a few steps of each model, to try the installation"
    demo.add_argument("--quick", action="store_true", help=quick_help)
