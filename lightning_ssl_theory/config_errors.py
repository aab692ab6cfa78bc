"""Why a configuration was refused, in one sentence with near valid names.

jsonargparse's own messages name the key, but seldom what it could have been.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_ssl_theory.bad_input import nearest

# jsonargparse 4.39 to 4.53 say it in different words
_UNKNOWN_KEY = re.compile(
    r"[Oo]ption '([^']+)' is not accepted|not accept (?:option|nested key) '([^']+)'|arguments: (-\S+)|"
    r"NestedArg\(key='([^']+)'"
)
_UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (\S+)|has no attribute '([^']+)'")
_MISSING_FILE = re.compile(r"File does not exist: '?([^'\n]+)'?")
_WRONG_VALUE = re.compile(r'Parser key "([^"]+)":.*(?:Given value|Got value): (.+)', re.DOTALL)
_MISSING_KEYS = re.compile(r"arguments are required: (.+)|(?:Key|Option) ['\"](\S+)['\"] is required")
_REFUSED_BY_CLASS = re.compile(r"^ *- (Expected (?!an? <class|a dot import path|an? <).+)$", re.MULTILINE)
_NAMED_BASES = (Callback, LightningDataModule, LightningModule, Logger, LRScheduler, Optimizer)
_MAX_LENGTH = 400


def explain(
    message: str, *, arguments: Sequence[str], keys: Iterable[str], short_names: dict[str, str]
) -> str:
    """One sentence about a refused configuration.

    Args:
        message: What jsonargparse says.
        arguments: The command line, whose configuration files are looked into.
        keys: All valid dotted keys of the subcommand.
        short_names: Bare class names and their full paths.

    Returns:
        Expected, found, and what to do.
    """
    if match := _MISSING_FILE.search(message):
        return _missing_file(Path(match[1]))
    if sentence := _unknown_parameter(arguments, short_names):
        return sentence
    if match := _UNKNOWN_KEY.search(message):
        name = next(filter(None, match.groups())).lstrip("-").split("=")[0]
        return _unknown_key(name, arguments, list(keys), short_names)
    if match := _MISSING_KEYS.search(message):
        return (
            f"Expected the keys {match[1] or match[2]}, found none; pass a configuration with --config FILE."
        )
    if match := _UNKNOWN_CLASS.search(message):
        name = next(filter(None, match.groups()))
        return f"Expected the name of a class, got {name!r}; {nearest(name, _class_names(short_names))}."
    if match := _WRONG_VALUE.search(message):
        found = re.findall(r"<class '([^']+)'>", message.split("Given value")[0])
        types = " or ".join(sorted({name.replace("NoneType", "null") for name in found}))
        of_type = f" of type {types}" if types else ""
        return f"Expected another value{of_type} for {match[1]}, got {' '.join(match[2].split())[:80]}."
    shortened = " ".join(message.split())
    return shortened if len(shortened) <= _MAX_LENGTH else f"{shortened[:_MAX_LENGTH]} …"


def refused_by_class(message: str) -> str | None:
    """Returns the sentence with which a class refused its arguments, out of jsonargparse's list of errors."""
    match = _REFUSED_BY_CLASS.search(message)
    return match[1] if match else None


def _missing_file(path: Path) -> str:
    siblings = [near.name for near in path.parent.glob(f"*{path.suffix}")] if path.parent.is_dir() else []
    hint = nearest(path.name, siblings) if siblings else "pass a path to an existing file"
    return f"Expected a file at `{path}`, found nothing; {hint}."


def _unknown_key(
    name: str, arguments: Sequence[str], keys: Sequence[str], short_names: dict[str, str]
) -> str:
    name = _dotted(name, arguments)
    last = name.rsplit(".", 1)[-1]
    for path, class_path, given in _class_settings(arguments):
        found = _class(short_names.get(class_path, class_path))
        if last in given and found is not None and last not in (valid := set(_parameters(found))):
            return (
                f"Expected a parameter of {found.__name__}, got {last!r} in {path}; {nearest(last, valid)}."
            )
    first = name.split(".")[0]
    if first not in keys:
        return f"Expected a key of the configuration, got {first!r}; {nearest(first, keys)}."
    if first == "trainer":
        return f"Expected a parameter of the Trainer, got {last!r}; {nearest(last, _parameters(Trainer))}."
    classes = filter(None, map(_class, short_names.values()))
    valid = {parameter for found in classes for parameter in _parameters(found)}
    return f"Expected a parameter under `{first}`, got {last!r}; {nearest(last, valid)}."


# The first parameter in a configuration file that its class does not have.
def _unknown_parameter(arguments: Sequence[str], short_names: dict[str, str]) -> str | None:
    for path, class_path, given in _class_settings(arguments):
        if (found := _class(short_names.get(class_path, class_path))) is None:
            continue
        valid = set(_parameters(found))
        for name in given:
            if name not in valid:
                return f"Expected a parameter of {found.__name__}, got {name!r} in {path}; {nearest(name, valid)}."
    return None


# The key with what stands before it, as far as the command line or a configuration file shows it.
def _dotted(name: str, arguments: Sequence[str]) -> str:
    for argument in arguments:
        option = argument.lstrip("-").split("=")[0].rstrip("+")
        if argument.startswith("--") and option.endswith(f".{name}"):
            return option
    for _, settings in _settings(arguments):
        trainer = settings.get("trainer") if isinstance(settings, dict) else None
        if isinstance(trainer, dict) and name in trainer:
            return f"trainer.{name}"
    return name


def _settings(arguments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    options = [part for argument in arguments for part in argument.split("=", 1)]
    for option, value in pairwise(options):
        if option in {"-c", "--config"}:
            try:
                yield value, yaml.safe_load(Path(value).read_text(encoding="utf-8"))
            except (OSError, yaml.YAMLError):
                continue


# File, class path and given parameters of every class in the configuration files.
def _class_settings(arguments: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, settings in _settings(arguments):
        for class_path, given in _classes_in(settings):
            yield path, class_path, given


def _classes_in(settings: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(settings, list):
        for item in settings:
            yield from _classes_in(item)
    elif isinstance(settings, dict):
        given = settings.get("init_args")
        if isinstance(settings.get("class_path"), str) and isinstance(given, dict):
            yield settings["class_path"], given
        for item in settings.values():
            yield from _classes_in(item)


def _class(path: str) -> type | None:
    module, _, name = path.rpartition(".")
    if not module:
        named = (found for base in _NAMED_BASES for found in _subclasses(base) if found.__name__ == name)
        return next(named, None)
    try:
        found = getattr(import_module(module), name, None)
    except ImportError:
        return None
    return found if isinstance(found, type) else None


def _parameters(found: type) -> Iterator[str]:
    for owner in found.__mro__[:-1]:
        parameters = inspect.signature(owner).parameters.values()
        yield from (p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return


def _subclasses(base: type) -> Iterator[type]:
    children: list[type] = base.__subclasses__()
    for child in children:
        yield child
        yield from _subclasses(child)


def _class_names(short_names: dict[str, str]) -> set[str]:
    loaded = {found.__name__ for base in _NAMED_BASES for found in _subclasses(base)}
    return set(short_names) | {name for name in loaded if not name.startswith("_")}
