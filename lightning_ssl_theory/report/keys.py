"""The table of every logged key: what it is, in which unit, and how to read it.

The report, the results table and the documentation are all written from this one table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

from lightning_ssl_theory.checks import InputError

from .key_table import KEY_TABLE

Scale = Literal["linear", "log", "share"]


class Section(NamedTuple):
    """A group of diagnostics, written by one callback.

    Attributes:
        name: First part of the key.
        title: Heading of the report's section.
        intro: What the section tells, in one sentence.
        source: The callback that logs it, as one adds it to a Trainer.
    """

    name: str
    title: str
    intro: str
    source: str


class Quantity(NamedTuple):
    """One logged quantity.

    Attributes:
        pattern: The key with its variable parts in angle brackets.
        section: First part of the key.
        name: Last part of the key; `<k>` stands for a number.
        title: What it is called in a sentence.
        unit: Unit of the axis; "%" for shares, which are logged in [0, 1].
        scale: "share" for values in [0, 1], "log" where values of different size are compared.
        reading: One line on how to read it.
    """

    pattern: str
    section: str
    name: str
    title: str
    unit: str
    scale: Scale
    reading: str


class Key(NamedTuple):
    """A column of metrics.csv, taken apart.

    Attributes:
        section: Text before the first slash.
        layer: Text between the first and the last slash, "" when there is none.
        name: Text after the last slash.
        quantity: The entry of the table, None for a key that is not in it.
        number: The number that stands for `<k>` in the entry, None where it has none.
    """

    section: str
    layer: str
    name: str
    quantity: Quantity | None
    number: int | None


SECTIONS: tuple[Section, ...] = (
    Section(
        "train",
        "Training",
        "The loss and the two parts it is the sum of.",
        "the LightningModule",
    ),
    Section(
        "probe",
        "Probe accuracy",
        "How well a linear classifier does on frozen features, on images it was not fitted on.",
        "LinearProbe",
    ),
    Section(
        "covariance",
        "Covariance operators",
        "The operator that drives a layer's weights in contrastive learning, and how much of the true "
        "gradient it explains.",
        "CovarianceOperators",
    ),
    Section(
        "selectivity",
        "Neuron selectivity",
        "Which neurons tell the classes apart, though training saw no label.",
        "NeuronSelectivity",
    ),
    Section(
        "feature_norms",
        "Feature norms and sparsity",
        "How much of a feature is sparse signal, how much is dense noise, and how seldom neurons fire.",
        "FeatureNormMonitor",
    ),
    Section(
        "collapse",
        "Collapse",
        "How many directions of the representation are in use.",
        "CollapseMonitor",
    ),
    Section(
        "orthogonality",
        "Orthogonality",
        "How far the weights are from orthonormal columns.",
        "OrthogonalityMonitor",
    ),
    Section(
        "generalization",
        "Generalization",
        "What the error bound of contrastive learning says, of samples and views of the look, and what it is made of.",
        "GeneralizationMonitor",
    ),
    Section(
        "overhead",
        "Time spent looking",
        "What the diagnostics themselves cost.",
        "every callback",
    ),
)


def _read_table(text: str) -> Iterator[Quantity]:
    for entry in re.split(r"\n(?=\S)", text.strip()):
        head, _, reading = entry.partition("\n")
        key, title, unit, scale = head.split(" | ")
        section, name = key.split("/")[0], key.split("/")[-1]
        yield Quantity(key, section, name, title, unit, cast(Scale, scale), " ".join(reading.split()))


QUANTITIES: tuple[Quantity, ...] = tuple(_read_table(KEY_TABLE))

_BY_PATTERN = {(q.section, q.name): q for q in QUANTITIES}


def parse_key(column: str) -> Key:
    """Section, layer and quantity of one column of metrics.csv.

    Args:
        column: A logged key, `<section>/<layer>/<quantity>`; a layer may hold slashes, a key may hold none.

    Returns:
        Its parts; `quantity` is None where the table has no such entry.

    Example:
        >>> key = parse_key("covariance/backbone.0/eigenvalue_2")
        >>> key.layer, key.quantity.title, key.number
        ('backbone.0', 'Spectrum', 2)
    """
    parts = column.split("/")
    section, layer, name = (parts[0] if len(parts) > 1 else ""), "/".join(parts[1:-1]), parts[-1]
    if quantity := _BY_PATTERN.get((section, name)):
        return Key(section, layer, name, quantity, None)
    for match in re.finditer(r"\d+", name):
        if quantity := _BY_PATTERN.get((section, f"{name[: match.start()]}<k>{name[match.end() :]}")):
            return Key(section, layer, name, quantity, int(match[0]))
    return Key(section, layer, name, None, None)


def keys_as_markdown(section: str | None = None) -> str:
    """The table of logged keys, as the documentation shows it.

    Args:
        section: First part of the keys that are wanted; all by default.

    Returns:
        A Markdown table with one row per key: pattern, unit, how to read it.

    Raises:
        InputError: If no key is of that section.

    Example:
        >>> [row.split(" | ")[0] for row in keys_as_markdown("overhead").splitlines()[2:]]
        ['| `overhead/<callback>/seconds`', '| `overhead/<callback>/share`']
    """
    chosen = [quantity for quantity in QUANTITIES if section in (None, quantity.section)]
    if not chosen:
        names = ", ".join(repr(one.name) for one in SECTIONS)
        raise InputError(f"Expected `section` to be one of {names}, got {section!r}.")
    lines = ["| key | unit | how to read it |", "|---|---|---|"]
    for quantity in chosen:
        unit = "share in [0, 1]" if quantity.unit == "%" else quantity.unit
        words = f"{unit} | {quantity.title}. {quantity.reading}".replace("<", "&lt;")
        lines.append(f"| `{quantity.pattern}` | {words} |")
    return "\n".join(lines)
