"""Tables as lists of rows, one for each seed and setting, and what is read from them seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def values_of(rows: Iterable[Mapping[str, Any]], key: str, **where: Any) -> list[Any]:
    """One column of the rows whose other columns have given values.

    Args:
        rows: The table.
        key: The column.
        **where: What other columns must hold; a range or a set is what they must be in.

    Returns:
        Its values, in the order of the rows.

    Example:
        >>> rows = [{"seed": 0, "h": 8, "loss": 3.0}, {"seed": 0, "h": 16, "loss": 2.0}]
        >>> values_of(rows, "loss", h=16)
        [2.0]
        >>> values_of(rows, "loss", h={8, 16})
        [3.0, 2.0]
    """
    return [row[key] for row in rows if all(_matches(row[name], goal) for name, goal in where.items())]


def seed_values(rows: Iterable[Mapping[str, Any]], key: str, **where: Any) -> list[float]:
    """One value for each seed: the mean of a column over those of the seed's rows that match.

    Args:
        rows: The table, with a column "seed".
        key: The column.
        **where: As for `values_of`.

    Returns:
        A value a seed, in the order in which the seeds appear.

    Example:
        >>> rows = [{"seed": 0, "layer": 1, "trace": 3.0}, {"seed": 0, "layer": 2, "trace": 1.0}]
        >>> seed_values(rows, "trace")
        [2.0]
    """
    by_seed: dict[Any, list[float]] = {}
    for row in rows:
        if all(_matches(row[name], goal) for name, goal in where.items()):
            by_seed.setdefault(row["seed"], []).append(row[key])
    return [math.fsum(values) / len(values) for values in by_seed.values()]


def paired_differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """The second less the first, seed by seed, on the seeds that both have.

    Args:
        first: One value for each seed, from seed 0 on.
        second: The same; one may have more seeds.

    Returns:
        As many differences as the shorter has seeds.

    Example:
        >>> paired_differences([1.0, 2.0], [4.0, 3.0, 9.0])
        [3.0, 1.0]
    """
    return [b - a for a, b in zip(first, second, strict=False)]


def _matches(value: object, goal: object) -> bool:
    return value in goal if isinstance(goal, (range, set, frozenset)) else value == goal
