"""The table at the end of a run: its key quantities, from the first value to the last."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from lightning_ssl_theory.report.highlights import Highlight, highlights
from lightning_ssl_theory.report.logged_run import Run


def results_table(runs: Sequence[Run]) -> Table:
    """Key quantities of one run, or of several side by side, for a rich console.

    Args:
        runs: Runs as `read_run` returns them; sub-runs are not looked at.

    Returns:
        One row a quantity; a cell is "first → last", or the value alone where there is one.
    """
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim", border_style="dim"
    )
    table.add_column("", no_wrap=True)
    rows: dict[tuple[str, str], dict[int, Highlight]] = {}
    for number, run in enumerate(runs):
        table.add_column(run.name, justify="right", no_wrap=True)
        for item in highlights(run):
            # side by side a row holds whatever layer the run has; alone it names the layer
            rows.setdefault((item.title, item.where if len(runs) == 1 else ""), {}).setdefault(number, item)
    for (title, where), cells in rows.items():
        texts = [_course(cells[number]) if number in cells else "[dim]–[/]" for number in range(len(runs))]
        table.add_row(f"{title} [dim]{where}[/]" if where else title, *texts)
    return table


def _course(item: Highlight) -> str:
    return f"[dim]{item.first.removesuffix(' %')} →[/] {item.last}" if len(item.values) > 1 else item.last
