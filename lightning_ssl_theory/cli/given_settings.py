"""What a command line asks for: its configuration files and options, as one nested dictionary."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.cli.refusals import nearest

_CONFIG = ("-c", "--config")
_CLASSES = ("model", "data")
_QUESTIONS = ("help", "print_config")


class GivenSettings(NamedTuple):
    """What is asked for.

    Attributes:
        settings: Nested keys.
        files: The configuration files that they come from.
        options: Keys of the command line, with dots.
    """

    settings: dict[str, Any]
    files: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()

    def place(self, key: str) -> str:
        """Where a key was given, to end a part of a sentence."""
        if key in self.options:
            return " on the command line"
        return f" in {self.files[-1]}" if self.files else ""


def given_settings(arguments: Sequence[str]) -> GivenSettings:
    """The settings of a command line, as far as they are nested keys: later ones replace earlier ones.

    Args:
        arguments: Options of `fit`, `validate` or `test`.

    Returns:
        Them. `--data.batch_size 8` becomes an argument of the class under `data`, and `--trainer.callbacks+ NAME` one
        more item of the list.

    Raises:
        InputError: If a configuration file is missing or no YAML, or the trainer's settings are no keys.
    """
    settings: dict[str, Any] = {}
    files, options = [], set()
    for option, value in _options(arguments):
        path = [name for name in option[2:].rstrip("+").split(".") if name != "init_args"]
        if option in _CONFIG:
            files.append(value)
            settings = _merged(settings, _read(Path(value)))
        elif option.startswith("--") and path[-1] not in _QUESTIONS:
            options.add(".".join(path))
            _place(settings, path, _value(value), is_appended=option.endswith("+"))
    given = GivenSettings(settings, tuple(files), frozenset(options))
    trainer = settings.get("trainer")
    if not isinstance(trainer, dict | str | None):
        raise InputError(
            f"Expected keys under `trainer`{given.place('trainer')}, got {trainer!r}; write keys such as "
            "`max_epochs: 5` below it."
        )
    return given


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


def _place(settings: dict[str, Any], path: Sequence[str], value: Any, *, is_appended: bool) -> None:
    *parents, last = path
    if isinstance(value, str) and (is_appended or (not parents and last in _CLASSES)):
        value = {"class_path": value}
    place: Any = settings
    for name in parents:
        place = place.setdefault(name, {})
        if isinstance(place, list):
            place = place[-1] if place else None
        if not isinstance(place, dict):
            return
        if "class_path" in place and last != "class_path":
            place = place.setdefault("init_args", {})
    if is_appended:
        before = place.get(last) or []
        value = [*(before if isinstance(before, list) else [before]), value]
    place[last] = value


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
