"""What the reproduction of a paper's result leaves behind: CSV tables, figures, and a verdict on every claim."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.report.verdicts import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOOK: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#ededea",
    "axes.axisbelow": True,
    "axes.edgecolor": "#8d939c",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.size": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
COLOURS = ("#2f6db5", "#d9741f", "#2a9078", "#a34f93", "#b8901c", "#c64b4b", "#5f6fd0", "#6f8a3a")


class Reproduction:
    """A folder with the CSV tables, figures and verdicts of one reproduced result.

    Args:
        name: Name of the result; the files lie in `<output_dir>/<name>`.
        output_dir: Folder of all results.

    Raises:
        InputError: If the folder cannot be written.
    """

    def __init__(self, name: str, output_dir: str | Path = "runs/reproduce") -> None:
        self.name, self.folder = name, Path(output_dir) / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Expected a folder that can be written, got {self.folder} ({error.strerror}); "
                "pass another `output_dir`."
            ) from error

    def table(self, name: str, rows: Sequence[Mapping[str, object]]) -> Path:
        """Write rows with the same columns to `<name>.csv`; returns its path."""
        path = self.folder / f"{name}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    @contextmanager
    def figure(self, name: str, *, num_rows: int = 1, num_columns: int = 1) -> Iterator[list[Axes]]:
        """Axes of a figure, row by row, that is saved as `<name>.png` on leaving."""
        from cycler import cycler
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        look: Any = LOOK | {"axes.prop_cycle": cycler(color=COLOURS)}
        with rc_context(look):
            size = (4.4 * num_columns, 3.4 * num_rows)
            figure = Figure(figsize=size, layout="constrained")
            yield list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
            figure.savefig(self.folder / f"{name}.png", dpi=150)

    def verdicts(self, verdicts: list[Verdict], *, console: Console | None = None) -> list[Verdict]:
        """Print the table "claim | here | threshold | holds?", write it to `verdicts.csv`, and return the verdicts."""
        table = Table(
            title=self.name, box=box.SIMPLE_HEAD, header_style="dim", title_justify="left", pad_edge=False
        )
        table.add_column("claim", overflow="fold", ratio=5)
        table.add_column("here: mean over seeds ± 95 %", overflow="fold", ratio=4)
        table.add_column("threshold", no_wrap=True)
        table.add_column("holds?", overflow="fold", min_width=9)
        for verdict in verdicts:
            paper = "" if verdict.paper == "in words" else f"paper: {verdict.paper}"
            colour = _COLOURS[verdict.holds]
            table.add_row(
                _with_note(verdict.claim, paper),
                _with_note(verdict.here, verdict.note),
                verdict.threshold,
                f"[{colour}]{escape(verdict.word)}[/]",
            )
        console = console or _console()
        console.print(table)
        self.table("verdicts", [verdict._asdict() for verdict in verdicts])
        files = ", ".join(sorted(path.name for path in self.folder.iterdir()))
        console.print(f"Written to {self.folder}: {files}", soft_wrap=True, highlight=False)
        return verdicts


_COLOURS = {True: "green", False: "red", None: "yellow"}


def _with_note(text: str, note: str) -> str:
    return escape(text) + (f"\n[dim]{escape(note)}[/]" if note else "")


def _console() -> Console:
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console.width = 110
    return console
