"""Several runs side by side, as one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_ssl_theory.report.chart import NUM_COLOURS
from lightning_ssl_theory.report.findings import findings
from lightning_ssl_theory.report.keys import QUANTITIES, SECTIONS, Key
from lightning_ssl_theory.report.logged_run import Run
from lightning_ssl_theory.report.panels import Panel, anchored, facts, overlays, side_by_side
from lightning_ssl_theory.report.templates import asset, rendered

_EACH = 3


def render_comparison(runs: Sequence[Run]) -> str:
    """Several runs side by side: what each says, and every key that two of them logged in one chart.

    Args:
        runs: What `read_runs` returns.

    Returns:
        A complete HTML document.
    """
    known = [section.name for section in SECTIONS if section.name != "overhead"]
    sections = [_overlaid(runs, name) for name in known]
    panels = [panel for panel in sections if panel.figures]
    return str(
        rendered(
            "comparison.html",
            title=" · ".join(run.name for run in runs),
            comparison=side_by_side(runs, ()),
            runs=[
                {
                    "name": run.name,
                    "colour": number % NUM_COLOURS,
                    "facts": facts(run),
                    "said": findings(run)[:_EACH],
                }
                for number, run in enumerate(runs)
            ],
            panels=panels,
            targets=[panel.target for panel in panels],
            style=asset("style.css"),
            script=asset("script.js"),
        )
    )


def _overlaid(runs: Sequence[Run], section: str) -> Panel:
    found = {series.column: series.key for run in runs for series in run.section(section)}
    shown = [column for column, key in found.items() if "eigenvalue" not in key.name or key.number == 1]
    columns = sorted(shown, key=lambda column: _rank(found[column]))
    about = next(one for one in SECTIONS if one.name == section)
    return Panel(section, about.title, anchored(section, overlays(runs, columns)), about)


# In the order of the key table.
def _rank(key: Key) -> tuple[int, str]:
    return (QUANTITIES.index(key.quantity) if key.quantity else len(QUANTITIES), key.layer)
