"""A run's metrics.csv, which is whole whenever the process dies, and which a continued run goes on with."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from lightning_ssl_theory.report.logged_rows import METRICS_FILE, read_rows
from lightning_ssl_theory.report.write import write_whole


class RunMetrics(CSVLogger):
    """Logger of a run folder's metrics.csv: a row is written when it is logged.

    Lightning's own logger empties the file to write a new column, and deletes the file of a run that is continued.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.parent, name=folder.name, version="", flush_logs_every_n_steps=1)
        self._file = _MetricsFile(folder)

    @property
    def num_rows(self) -> int:
        """Number of rows in the file."""
        return self._file.num_rows

    @property
    def experiment(self) -> ExperimentWriter:
        """The file, on the first process."""
        if self._experiment is None:
            self._experiment = self._file
        return super().experiment

    def start_from(self, rows: Sequence[dict[str, str]]) -> None:
        """Start with the rows of an earlier run, in place of whatever the file holds.

        Args:
            rows: As `read_rows` returns them.
        """
        self._file.replace(rows)


def rows_until(path: Path, *, num_rows: int | None, last_step: int) -> list[dict[str, str]]:
    """The rows that a run had logged when it wrote a checkpoint.

    Args:
        path: Its metrics.csv.
        num_rows: How many there were; `None` where the checkpoint does not say.
        last_step: The optimiser step of the checkpoint, which decides then.

    Returns:
        The rows; none where there is no such file.
    """
    rows = read_rows(path)
    if num_rows is not None:
        return rows[:num_rows]
    return [row for row in rows if row.get("step", "").isdigit() and int(row["step"]) <= last_step]


class _MetricsFile(ExperimentWriter):
    def __init__(self, folder: Path) -> None:
        self.num_rows = 0
        self._path = folder / METRICS_FILE
        super().__init__(str(folder))

    def save(self) -> None:
        new, self.metrics = self.metrics, []
        if {column for row in new for column in row} - set(self.metrics_keys):
            self.replace([*(read_rows(self._path) if self.num_rows else []), *new])
        elif new:
            self._append(new)

    def replace(self, rows: Sequence[Mapping[str, Any]]) -> None:
        columns = sorted({column for row in rows for column in row} | set(self.metrics_keys))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self._path, text.getvalue())
        self.metrics_keys, self.num_rows = columns, len(rows)

    def _append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        size = self._path.stat().st_size
        try:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.metrics_keys).writerows(rows)
        except OSError:
            os.truncate(self._path, size)  # half a row would be a false number
            raise
        self.num_rows += len(rows)

    # Lightning's deletes the file
    def _check_log_dir_exists(self) -> None:
        return None
