"""What a command line asks for: its configuration files and options, as one nested dictionary."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.cli.refusals import nearest

_CONFIG = ("-c", "--config")
_CLASSES = ("model", "data")


class GivenSettings(NamedTuple):
    """The settings, and the files that they come from."""

    settings: dict[str, Any]
    files: tuple[str, ...]


def given_settings(arguments: Sequence[str]) -> GivenSettings:
    """The settings of a command line, as far as they are nested keys: later ones replace earlier ones.

    Args:
        arguments: Options of `fit`, `validate` or `test`; values that are appended to a list are passed over.

    Returns:
        Them. `--data.batch_size 8` becomes an argument of the class under `data`.

    Raises:
        InputError: If a configuration file is missing or no YAML.
    """
    settings: dict[str, Any] = {}
    files = []
    for option, value in _options(arguments):
        if option in _CONFIG:
            files.append(value)
            settings = _merged(settings, _read(Path(value)))
        elif option.startswith("--") and not option.endswith("+"):
            _place(settings, option[2:].split("."), _value(value))
    return GivenSettings(settings, tuple(files))


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    rest = list(arguments)
    while rest:
        option, is_joined, value = rest.pop(0).partition("=")
        if option.startswith("-") and not is_joined and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        if option.startswith("-"):
            yield option, value


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        siblings = [near.name for near in path.parent.glob(f"*{path.suffix}")] if path.parent.is_dir() else []
        hint = nearest(path.name, siblings) if siblings else "pass a path to an existing file"
        raise InputError(f"Expected a file at `{path}`, found nothing; {hint}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"Expected YAML in `{path}`, found: {error}; correct it there.") from error
    if not isinstance(found, dict):
        raise InputError(
            f"Expected keys such as `model:` in `{path}`, found {type(found).__name__}; add them."
        )
    return found


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(old[key], new[key])
        for key in old.keys() & new.keys()
        if isinstance(old[key], dict) and isinstance(new[key], dict)
    }
    return old | new | both


def _place(settings: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, last = (name for name in path if name != "init_args")
    if not parents and last in _CLASSES and isinstance(value, str):
        value = {"class_path": value}
    place = settings
    for name in parents:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            return  # a list, whose items are not named
        if "class_path" in place and last != "class_path":
            place = place.setdefault("init_args", {})
    place[last] = value


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
