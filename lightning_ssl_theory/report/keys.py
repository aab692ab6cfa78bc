"""The table of every logged key: what it is, in which unit, and how to read it.

The report, the results table and the documentation are all written from this one table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

from .key_table import KEY_TABLE

Scale = Literal["linear", "log", "share"]


class Section(NamedTuple):
    """A group of diagnostics, written by one callback.

    Attributes:
        name: First part of the key.
        title: Heading of the report's section.
        intro: What the section tells, in one sentence.
        good: What good looks like, in one sentence.
        source: The callback that logs it, as one adds it to a Trainer.
    """

    name: str
    title: str
    intro: str
    good: str
    source: str


class Quantity(NamedTuple):
    """One logged quantity.

    Attributes:
        pattern: The key with its variable parts in angle brackets.
        section: First part of the key.
        name: Last part of the key; `<k>` stands for a whole number, `<tau>` for any.
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
        numbers: What stands for `<k>` and `<tau>` in the entry, as they are written in the column.
    """

    section: str
    layer: str
    name: str
    quantity: Quantity | None
    numbers: tuple[tuple[str, str], ...] = ()

    @property
    def number(self) -> int | None:
        """What stands for `<k>`, None where the entry has none."""
        return int(dict(self.numbers)["<k>"]) if self.numbers else None

    def filled(self, text: str) -> str:
        """A text of the entry with the numbers of this column."""
        for placeholder, number in self.numbers:
            text = text.replace(placeholder, number)
        return text


SECTIONS: tuple[Section, ...] = (
    Section(
        "train",
        "Training",
        "The loss and the two parts it is the sum of.",
        "A loss that falls and settles, without a jump; how low it gets depends on the kind of loss.",
        "the LightningModule",
    ),
    Section(
        "probe",
        "Probe accuracy",
        "How well a linear classifier, or the nearest neighbours, do on frozen features, on images not fitted on.",
        "Accuracy that rises above that of the first look and stays up, far above chance (1 / number of classes).",
        "LinearProbe",
    ),
    Section(
        "covariance",
        "Covariance operators",
        "The operator that drives a layer's weights in contrastive learning, and how much of the true "
        "gradient it explains.",
        "A residual near 0, a signal share well above one half, and traces that no layer loses before the others.",
        "CovarianceOperators",
    ),
    Section(
        "selectivity",
        "Neuron selectivity",
        "Which neurons tell the classes apart, though training saw no label.",
        "A share of selective neurons that grows, most of all in deep layers.",
        "NeuronSelectivity",
    ),
    Section(
        "feature_norms",
        "Feature norms and sparsity",
        "How much of a feature is sparse signal, how much is dense noise, and how seldom neurons fire.",
        "Few dead neurons and norms that settle; with a dictionary, a sparse share that rises towards 100 %.",
        "FeatureNormMonitor",
    ),
    Section(
        "collapse",
        "Collapse",
        "How many directions of the representation are in use.",
        "A rank that stays far above 1 or grows; one that falls with the loss means that views agree by forgetting.",
        "CollapseMonitor",
    ),
    Section(
        "orthogonality",
        "Orthogonality",
        "How far the weights are from orthonormal columns.",
        "Drift at rounding, below 1e-5, where weights are constrained; outputs that stay close to those of the ODE.",
        "OrthogonalityMonitor",
    ),
    Section(
        "generalization",
        "Generalization",
        "What the error bound of contrastive learning says, of samples and views of the look, and what it is made of.",
        "An error that falls, views that agree, class centres far apart; on real images the bound often says nothing.",
        "GeneralizationMonitor",
    ),
    Section(
        "overhead",
        "Time spent looking",
        "What the diagnostics themselves cost.",
        "A few per cent of the run; `every_n_steps` and `num_samples` make it smaller.",
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

_BY_NAME = {(q.section, q.name): q for q in QUANTITIES if "<" not in q.name}
_NUMBERS = {"<k>": r"(\d+)", "<tau>": r"(\d[\d.e+-]*)"}
_PATTERNS = [
    (q, re.compile("".join(_NUMBERS.get(part, re.escape(part)) for part in re.split("(<.*?>)", q.name))))
    for q in QUANTITIES
    if "<" in q.name
]


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
    if quantity := _BY_NAME.get((section, name)):
        return Key(section, layer, name, quantity)
    for quantity, pattern in _PATTERNS:
        if quantity.section == section and (match := pattern.fullmatch(name)):
            placeholders = re.findall("<.*?>", quantity.name)
            return Key(section, layer, name, quantity, tuple(zip(placeholders, match.groups(), strict=True)))
    return Key(section, layer, name, None)


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
        from lightning_ssl_theory.checks import InputError  # which imports torch

        names = ", ".join(repr(one.name) for one in SECTIONS)
        raise InputError(f"Expected `section` to be one of {names}, got {section!r}.")
    lines = ["| key | unit | how to read it |", "|---|---|---|"]
    for quantity in chosen:
        unit = "share in [0, 1]" if quantity.unit == "%" else quantity.unit
        words = f"{unit} | {quantity.title}. {quantity.reading}".replace("<", "&lt;")
        lines.append(f"| `{quantity.pattern}` | {words} |")
    return "\n".join(lines)
