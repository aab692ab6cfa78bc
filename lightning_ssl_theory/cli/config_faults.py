"""The first fault of a configuration that jsonargparse has refused: its key, its value, and what would be right.

jsonargparse's own messages list what each alternative of a union says, and of a list of classes not which item is
meant. So each key is tried by itself, from the innermost on.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_ssl_theory.cli.given_settings import GivenSettings
from lightning_ssl_theory.cli.refusals import nearest

_BASES = (Callback, LightningDataModule, LightningModule, Logger, LRScheduler, Optimizer)
_TYPE = re.compile(r"type: (.+?)(?:, default: |, known subclasses: |\)(?: |$))")
_INNERMOST = re.compile(r"^ *- (.+)$", re.MULTILINE)
# what the type of the key says already
_PLAIN = (
    "Expected a <class",
    "Expected an <class",
    "Not a valid subclass",
    "Subclass types expect",
    "a class path",
    "a dict",
)
_MAX_VALUE = 80


def first_fault(
    given: GivenSettings, keys: Sequence[str], short_names: Mapping[str, str], mode: str
) -> str | None:
    """One sentence on the first key that cannot be.

    Args:
        given: The settings, with the full paths of classes.
        keys: The valid keys at the top.
        short_names: Bare class names and their full paths.
        mode: How jsonargparse reads text.

    Returns:
        What was expected and found, or `None` where every key is right by itself.
    """
    finder = _FaultFinder(given, short_names, mode)
    for name in given.settings:
        if name not in keys:
            return f"Expected a key of the configuration, got {name!r}{given.place(name)}; {nearest(name, keys)}."
    for name in ("model", "data"):
        if not given.settings.get(name):
            return f"Expected a `{name}`, found none; pass a configuration with --config FILE."
    parts = {name: given.settings.get(name) for name in ("model", "data")}
    trainer = given.settings.get("trainer") or {}
    faults = [finder.in_value(value, name) for name, value in parts.items()]
    if isinstance(trainer, dict):
        faults.append(finder.in_arguments(Trainer, trainer, "trainer"))
    return next(filter(None, faults), None)


class _FaultFinder:
    def __init__(self, given: GivenSettings, short_names: Mapping[str, str], mode: str) -> None:
        self._given, self._short_names, self._mode = given, short_names, mode

    def in_value(self, value: Any, path: str) -> str | None:
        items: Iterable[tuple[str, Any]] = ()
        if isinstance(value, list):
            items = ((f"{path}[{index}]", item) for index, item in enumerate(value))
        elif isinstance(value, dict) and isinstance(value.get("class_path"), str):
            return self._in_class(value["class_path"], value.get("init_args") or {}, path)
        elif isinstance(value, dict):
            items = ((f"{path}.{key}", item) for key, item in value.items())
        return next(filter(None, (self.in_value(item, inner) for inner, item in items)), None)

    def _in_class(self, class_path: str, given: Any, path: str) -> str | None:
        found = _class(class_path)
        if found is None:
            near = nearest(class_path.rpartition(".")[2], _class_names(self._short_names))
            return f"Expected the name of a class at `{path}`{self._given.place(path)}, got {class_path!r}; {near}."
        return self.in_arguments(found, given, path) if isinstance(given, dict) else None

    def in_arguments(self, owner: type, given: Mapping[str, Any], path: str) -> str | None:
        names = set(_parameters(owner))
        for name in given:
            if name not in names:
                return (
                    f"Expected a parameter of {owner.__name__}, got {name!r} at `{path}`"
                    f"{self._given.place(f'{path}.{name}')}; "
                    f"{nearest(name, names)}."
                )
        inside = (
            self.in_value(value, f"{path}.{name}") or self._refusal(owner, name, value, f"{path}.{name}")
            for name, value in given.items()
        )
        return next(filter(None, inside), None)

    def _refusal(self, owner: type, name: str, value: Any, path: str) -> str | None:
        parser = ArgumentParser(exit_on_error=False, parser_mode=self._mode)
        parser.add_class_arguments(owner, skip=set(_parameters(owner)) - {name}, fail_untyped=False)
        try:
            parser.parse_object({name: value})
        except ArgumentError as error:
            right = _TYPE.search(" ".join(parser.format_help().split()))
            lines = [line for line in _INNERMOST.findall(error.message) if not line.startswith(_PLAIN)]
            said = f" ({lines[0].rstrip('.')})" if lines else ""
            shown = " ".join(repr(value).split())
            shown = shown if len(shown) <= _MAX_VALUE else f"{shown[:_MAX_VALUE]} …"
            return (
                f"Expected a value of type {right[1] if right else 'another kind'} for `{path}`, got {shown}"
                f"{said}; change it{self._given.place(path)}."
            )
        return None


def place_of_refusal(sentence: str, given: GivenSettings, mode: str) -> str:
    """Which callback of the configuration refuses its arguments with a sentence.

    Args:
        sentence: As the callback says it.
        given: The settings, with the full paths of classes.
        mode: How jsonargparse reads text.

    Returns:
        Its key and class, to begin the sentence with; nothing where no callback of the list says so.
    """
    trainer = given.settings.get("trainer")
    listed = trainer.get("callbacks") if isinstance(trainer, dict) else None
    for index, item in enumerate(listed if isinstance(listed, list) else ()):
        parser = ArgumentParser(exit_on_error=False, parser_mode=mode)
        parser.add_subclass_arguments(Callback, "callback")
        try:
            parser.instantiate_classes(parser.parse_object({"callback": item}))
        except (ValueError, ArgumentError) as error:
            if sentence in str(error) and isinstance(item, dict):
                name = str(item.get("class_path")).rpartition(".")[2]
                return f"trainer.callbacks[{index}] ({name}): "
    return ""


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
    for base in _BASES:
        yield from _subclasses(base)


def _subclasses(base: type) -> Iterator[type]:
    children: list[type] = base.__subclasses__()
    for child in children:
        yield child
        yield from _subclasses(child)


def _class_names(short_names: Mapping[str, str]) -> set[str]:
    loaded = {found.__name__ for found in _loaded_classes()}
    return set(short_names) | {name for name in loaded if not name.startswith("_")}
