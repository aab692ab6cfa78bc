"""The command line of a script that reproduces a paper's result."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_type_hints


def run_script(main: Callable[..., object], argv: Sequence[str] | None = None, **helps: str) -> None:
    """Call a script's `main` with options from the command line.

    An option has the name, type and default of the argument of `main`; its help is given here. The module's docstring
    describes the script, and `--output-dir` is always there.

    Args:
        main: Function of keyword arguments, `output_dir` among them.
        argv: The words of the command line; those of the process by default.
        **helps: One text for each argument that can be set, in the order of the help.
    """
    parser = argparse.ArgumentParser(
        description=main.__globals__["__doc__"], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parameters, hints = inspect.signature(main).parameters, get_type_hints(main)
    for name, text in (helps | {"output_dir": "folder of all results"}).items():
        option, default = f"--{name.replace('_', '-')}", parameters[name].default
        if hints[name] is bool:
            parser.add_argument(option, action="store_true", help=text)
        else:
            parser.add_argument(option, default=default, type=_type(hints[name]), help=text)
    main(**vars(parser.parse_args(argv)))


def _type(hint: Any) -> Any:
    """`int` of `int | None`."""
    return next((part for part in get_args(hint) if part is not type(None)), hint)
