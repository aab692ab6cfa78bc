"""Tables as lists of rows, one for each seed and setting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def values_of(rows: Iterable[Mapping[str, Any]], key: str, **where: Any) -> list[Any]:
    """One column of the rows whose other columns have given values.

    Args:
        rows: The table.
        key: The column.
        **where: What other columns must hold.

    Returns:
        Its values, in the order of the rows.

    Example:
        >>> rows = [{"seed": 0, "h": 8, "loss": 3.0}, {"seed": 0, "h": 16, "loss": 2.0}]
        >>> values_of(rows, "loss", h=16)
        [2.0]
    """
    return [row[key] for row in rows if all(row[name] == value for name, value in where.items())]
