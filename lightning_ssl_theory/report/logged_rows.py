"""Rows that a run has logged, from metrics.csv or, where there is none, from the file of an offline wandb run."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

METRICS_FILE = "metrics.csv"
STEP_COLUMNS = ("step", "trainer/global_step", "global_step", "Step", "_step")
_WANDB_PATTERNS = ("*.wandb", "*run-*/*.wandb", "wandb/*run-*/*.wandb")
_STEPS = frozenset(STEP_COLUMNS)
_BLOCK, _HEADER = 32_768, 7


def find_rows(folder: Path) -> Path | None:
    """The file in a folder that holds the rows of a run.

    Args:
        folder: A run folder.

    Returns:
        metrics.csv; else the newest `.wandb` file of the folder itself or of its `wandb/`; None without either.
    """
    if (folder / METRICS_FILE).is_file():
        return folder / METRICS_FILE
    found = [path for pattern in _WANDB_PATTERNS for path in folder.glob(pattern) if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv, or of a `.wandb` file, that are whole.

    A last line without its end, and lines with more or fewer cells than the header, were cut while they were
    written: they may end in the middle of a number, and are left out. A line that names the step's column again is a
    new header, as in files that were put one after another.

    Args:
        path: The file; one that cannot be read has no rows.

    Returns:
        For each row the columns it has a value for.
    """
    rows = []
    for header, lines in _tables(path):
        rows += [{name: cell for name, cell in zip(header, line, strict=True) if cell} for line in lines]
    return rows


class Column(NamedTuple):
    """One key of a run.

    Attributes:
        rows: Numbers of the rows that have a value for it, increasing.
        cells: The values as texts.
    """

    rows: Sequence[int]
    cells: Sequence[str]


def read_columns(path: Path) -> dict[str, Column]:
    """The same values by column, several times faster for a long run.

    Args:
        path: As for `read_rows`.

    Returns:
        A column for each key, in the order of the header.
    """
    found: dict[str, list[Column]] = {}
    start = 0
    for header, lines in _tables(path):
        every = range(start, start + len(lines))
        for name, cells in zip(header, zip(*lines, strict=True), strict=True):
            if not all(cells):
                kept = [number for number, cell in zip(every, cells, strict=True) if cell]
                found.setdefault(name, []).append(Column(kept, [cell for cell in cells if cell]))
            else:
                found.setdefault(name, []).append(Column(every, cells))
        start += len(lines)
    return {name: _joined(parts) for name, parts in found.items()}


def _joined(parts: list[Column]) -> Column:
    if len(parts) == 1:
        return parts[0]
    rows, cells = zip(*parts, strict=True)
    return Column(list(chain(*rows)), list(chain(*cells)))


# Tables of a header and its lines: several in files that were put one after another.
def _tables(path: Path) -> Iterator[tuple[list[str], list[list[str]]]]:
    try:
        content = path.read_bytes()
    except OSError:
        return
    yield from _wandb_table(content) if path.suffix == ".wandb" else _csv_tables(content)


def _wandb_table(content: bytes) -> Iterator[tuple[list[str], list[list[str]]]]:
    rows = list(_wandb_rows(content))
    header = list(dict.fromkeys(name for row in rows for name in row))
    yield header, [[row.get(name, "") for name in header] for row in rows]


def _csv_tables(content: bytes) -> Iterator[tuple[list[str], list[list[str]]]]:
    whole, _, _ = content.rpartition(b"\n")  # the end of a line may be cut in two
    header: list[str] = []
    lines: list[list[str]] = []
    for line in _lines(whole.decode(errors="replace")):
        if not header or line == header or not _STEPS.isdisjoint(line):
            if lines:
                yield header, lines
            header, lines = line, []
        elif len(line) == len(header):
            lines.append(line)
    if lines:
        yield header, lines


def _lines(text: str) -> Iterator[list[str]]:
    reader = csv.reader(text.splitlines())
    while True:
        try:
            yield next(reader)
        except csv.Error:  # a field beyond the limit, in a file that something else wrote
            continue
        except StopIteration:
            return


def _wandb_rows(content: bytes) -> Iterator[dict[str, str]]:
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    for data in _records(content):
        try:
            record = Record.FromString(data)
        except DecodeError:
            return  # cut while it was written
        items = ((item.key or "/".join(item.nested_key), item.value_json) for item in record.history.item)
        row = {key: text for key, value in items if (text := _number_text(value))}
        if row:
            yield row


def _number_text(value_json: str) -> str:
    # of what is no number, such as an image, nothing
    try:
        value = json.loads(value_json)
    except ValueError:
        return ""
    is_word = value in ("NaN", "Infinity", "-Infinity")
    return str(value) if is_word or (isinstance(value, int | float) and not isinstance(value, bool)) else ""


# The format of LevelDB's log: blocks of 32 KiB, and records in fragments, each after a header of a checksum, its length
# and its kind: whole, first, middle, last.
def _records(content: bytes) -> Iterator[bytes]:
    position, parts = _HEADER, []
    while position + _HEADER <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + _HEADER])
        end = position + _HEADER + length
        if kind not in {1, 2, 3, 4} or end > len(content):
            return
        parts.append(content[position + _HEADER : end])
        if kind in {1, 4}:
            yield b"".join(parts)
            parts = []
        position = end
