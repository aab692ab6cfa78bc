"""The directives `verdicts` and `results`: tables that the scripts of examples/reproduce wrote, and nothing else.

They lie in docs/results/<name>, where `python docs/refresh_results.py <name>` puts them.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
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
        rows = [_row_of(_verdict(row)) for row in _rows(self, name, "verdicts")]
        made = json.loads((RESULTS / name / "made.json").read_text())
        command, settings = made["command"], made["settings"]
        text = nodes.paragraph("", "Written by ", nodes.literal("", command), nodes.Text(f" ({settings})."))
        text["classes"].append("made-by")
        return [_table(head, rows, (40, 32, 14, 14)), text]


class Results(SphinxDirective):
    """Chosen columns of one table of one script."""

    required_arguments = 2
    option_spec = {"columns": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """The table of `results/<name>/<table>.csv`."""
        rows = _rows(self, *self.arguments)
        chosen = self.options.get("columns", ",".join(rows[0])).split(",")
        cells = [[[_short(row[column])] for column in chosen] for row in rows]
        return [_table(chosen, cells, [1] * len(chosen))]


def _rows(directive: SphinxDirective, name: str, table: str) -> list[dict[str, str]]:
    path = RESULTS / name / f"{table}.csv"
    directive.env.note_dependency(str(path))
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _verdict(row: dict[str, str]) -> Verdict:
    holds = {"True": True, "False": False, "": None}[row["holds"]]
    numbers = {key: float(row[key]) for key in ("value", "half_width")}
    return Verdict(**(row | numbers | {"holds": holds}))


def _row_of(verdict: Verdict) -> list[list[str]]:
    claim = [verdict.claim] if verdict.paper == "in words" else [verdict.claim, f"paper: {verdict.paper}"]
    here = [verdict.here, verdict.note] if verdict.note else [verdict.here]
    return [claim, here, [verdict.threshold], [verdict.word]]


def _short(text: str) -> str:
    try:
        return text if text.lstrip("-").isdigit() else f"{float(text):.4g}"
    except ValueError:
        return text


def _table(head: Sequence[str], rows: Sequence[Sequence[Sequence[str]]], widths: Sequence[int]) -> nodes.table:
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += nodes.thead("", _row([[text] for text in head]))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group, classes=["results"])


def _row(cells: Sequence[Sequence[str]]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", *(nodes.paragraph("", text) for text in cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives."""
    app.add_directive("verdicts", Verdicts)
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
