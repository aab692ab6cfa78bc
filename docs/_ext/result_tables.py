"""The directive `verdicts`: what the scripts of examples/reproduce judged, and nothing else.

They lie in docs/results/<name>, where `python docs/refresh_results.py <name>` puts them.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lightning_ssl_theory.report import Verdict

RESULTS = Path(__file__).parents[1] / "results"


class Verdicts(SphinxDirective):
    """Every claim that one script judges, what was measured, and whether it holds."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table of `results/<name>/verdicts.csv`, and how it was made."""
        (name,) = self.arguments
        head = ("claim", "measured here: mean over seeds ± 95 %", "must be", "holds?")
        path = RESULTS / name / "verdicts.csv"
        if not path.exists():
            raise self.error(f"Expected {path}, found none; run: python docs/refresh_results.py {name}")
        self.env.note_dependency(str(path))
        with path.open(newline="") as file:
            rows = [_row_of(_verdict(row)) for row in csv.DictReader(file)]
        made = json.loads(path.with_name("made.json").read_text())
        command, settings = made["command"], made["settings"]
        text = nodes.paragraph("", "Written by ", nodes.literal("", command), nodes.Text(f" ({settings})."))
        text["classes"].append("made-by")
        return [_table(head, rows, (40, 32, 14, 14)), text]


def _verdict(row: dict[str, str]) -> Verdict:
    holds = {"True": True, "False": False, "": None}[row["holds"]]
    numbers = {key: float(row[key]) for key in ("value", "half_width")}
    return Verdict(**(row | numbers | {"holds": holds}))


def _row_of(verdict: Verdict) -> list[list[str]]:
    claim = [verdict.claim] if verdict.paper == "in words" else [verdict.claim, f"paper: {verdict.paper}"]
    here = [verdict.here, verdict.note] if verdict.note else [verdict.here]
    return [claim, here, [verdict.threshold], [verdict.word]]


def _table(
    head: Sequence[str], rows: Sequence[Sequence[Sequence[str]]], widths: Sequence[int]
) -> nodes.table:
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += nodes.thead("", _row([[text] for text in head]))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group, classes=["results"])


def _row(cells: Sequence[Sequence[str]]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", *(nodes.paragraph("", text) for text in cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("verdicts", Verdicts)
    return {"parallel_read_safe": True}
