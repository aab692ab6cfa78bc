"""What a rule is, and what it says: a sentence, how bad the news is, and the curve that shows it."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from lightning_ssl_theory.report.findings.trend import Curve
from lightning_ssl_theory.report.logged_run import Run, Series

_MAX_NAMED = 3


class Severity(IntEnum):
    """How bad the news is."""

    GOOD = 0
    NOTE = 1
    WATCH = 2
    PROBLEM = 3
    BROKEN = 4


class Statement(NamedTuple):
    """What one rule says of one layer, or of the run.

    Attributes:
        severity: How bad it is.
        sentence: With its numbers.
        size: Orders statements of equal severity, larger first.
    """

    severity: Severity
    sentence: str
    size: float = 0.0


class Placed(NamedTuple):
    """A statement and the curve that shows it.

    Attributes:
        statement: What is said.
        section: Section of the curve.
        name: Quantity of the curve, the last part of its key; "" for the section as a whole.
        layer: The layer that it is about, "" where it is about the run.
    """

    statement: Statement
    section: str
    name: str = ""
    layer: str = ""


class Rule(NamedTuple):
    """A rule: when it speaks, and what to do then.

    Attributes:
        name: What it watches for.
        condition: When it speaks, in words, with its bounds.
        advice: What to look at or try next.
        look: What it says of a run.
    """

    name: str
    condition: str
    advice: str
    look: Callable[[Run], list[Placed]]


class Finding(NamedTuple):
    """What a rule says of a run: of the worst of its layers, and which others it speaks of too.

    Attributes:
        rule: The rule.
        severity: Of the worst statement.
        sentence: The worst statement.
        section: Section of the curve that shows it.
        name: Quantity of the curve; "" for the section as a whole.
        others: Names of the other layers of which the rule speaks.
    """

    rule: Rule
    severity: Severity
    sentence: str
    section: str
    name: str
    others: tuple[str, ...] = ()

    @property
    def also(self) -> str:
        """A sentence that names the others, at most three; "" without any."""
        if not self.others:
            return ""
        names = list(self.others[:_MAX_NAMED])
        if len(self.others) > _MAX_NAMED:
            names.append(f"{len(self.others) - _MAX_NAMED:,} more")
        listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        return f"The rule speaks of {listed} too."


Check = Callable[..., Statement | None]


def per_layer(
    section: str, check: Check, name: str, *needed: str, optional: tuple[str, ...] = ()
) -> Callable:
    """A look that checks every layer of a section whose quantities were logged.

    Args:
        section: The section.
        check: Called with the layer's name and a `Curve` for each quantity, None for optional ones that are missing.
        name: Quantity whose chart shows what is said.
        *needed: Other quantities that must be there.
        optional: Quantities that may be missing.

    Returns:
        What `Rule.look` is.
    """

    def look(run: Run) -> list[Placed]:
        placed = []
        for series in run.quantity(section, name):
            stem = series.column.removesuffix(name)
            columns = [run.series.get(f"{stem}{other}") for other in (name, *needed, *optional)]
            if None in columns[: 1 + len(needed)]:
                continue
            curves = [None if one is None else curve_of(run, one) for one in columns]
            layer = series.key.layer or "the network"
            if statement := check(layer, *curves):
                placed.append(Placed(statement, section, name, layer))
        return placed

    return look


def curve_of(run: Run, series: Series) -> Curve:
    """A series with its measured errors.

    Args:
        run: The run that it is of.
        series: One key over training.

    Returns:
        The curve.
    """
    return Curve(series.steps, series.values, tuple(run.half_widths(series)))
