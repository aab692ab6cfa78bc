"""Bad input at the command line: one sentence on what was expected and found, with near valid names; exit code 2.

jsonargparse's own messages name the key, but seldom what it could have been. torch and Lightning are imported where
a configuration is explained, so that help and errors come at once.
"""

import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from traceback import walk_tb
from typing import Any, NoReturn

import yaml  # type: ignore[import-untyped]

PROGRAM = "lightning-ssl-theory"
_PACKAGE = Path(__file__).resolve().parents[1]
# in a checkout `callbacks/` lies beside the package
_OWN_FOLDERS = (_PACKAGE, _PACKAGE.parent / "callbacks")
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
_MAX_LENGTH = 400


def fail(sentence: str) -> NoReturn:
    """Print a sentence to stderr and exit with code 2.

    Args:
        sentence: What was expected, what was found, what to do.

    Raises:
        SystemExit: Always.
    """
    print(f"{PROGRAM}: {' '.join(sentence.split())}", file=sys.stderr)
    raise SystemExit(2)


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the valid names that look like it.

    Args:
        name: What was found.
        candidates: The valid names.

    Returns:
        Up to three of them, nearest first, or all of them where none is near and they are few.

    Example:
        >>> nearest("widht", ["width", "depth", "height"])
        "the nearest are 'width', 'height'"
    """
    valid = sorted(set(candidates))
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.5)
    if not near and len(valid) > 12:
        near = difflib.get_close_matches(name, valid, n=3, cutoff=0.0)
    if near:
        return f"the nearest {'is' if len(near) == 1 else 'are'} {', '.join(map(repr, near))}"
    return f"choose from {', '.join(map(repr, valid))}" if valid else "leave it out"


@contextmanager
def exit_on_bad_input() -> Iterator[None]:
    """Turn an error that this library raised about its input into one sentence and exit code 2.

    Errors raised anywhere else keep their traceback: they are not about input that we know of.

    Raises:
        ValueError: As any TypeError and OSError, when it was raised elsewhere.
        TypeError: See above.
        OSError: See above.
    """
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        own = next(filter(_is_own, _chain(error)), None)
        if own is None:
            raise
        fail(str(own))


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


# The error and those it was raised from: jsonargparse wraps what a constructor says.
def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_own(error: BaseException) -> bool:
    frames = list(walk_tb(error.__traceback__))
    raised_in = Path(frames[-1][0].f_code.co_filename).resolve() if frames else Path()
    is_input = isinstance(error, ValueError | OSError)  # an InputError is a ValueError
    return is_input and any(folder in raised_in.parents for folder in _OWN_FOLDERS)


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
        from lightning.pytorch import Trainer

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
        return next((found for found in _loaded_classes() if found.__name__ == name), None)
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


# What a configuration may call by its bare name, as far as it is imported.
def _loaded_classes() -> Iterator[type]:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule
    from lightning.pytorch.loggers import Logger
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    for base in (Callback, LightningDataModule, LightningModule, Logger, LRScheduler, Optimizer):
        yield from _subclasses(base)


def _subclasses(base: type) -> Iterator[type]:
    children: list[type] = base.__subclasses__()
    for child in children:
        yield child
        yield from _subclasses(child)


def _class_names(short_names: dict[str, str]) -> set[str]:
    loaded = {found.__name__ for found in _loaded_classes()}
    return set(short_names) | {name for name in loaded if not name.startswith("_")}
