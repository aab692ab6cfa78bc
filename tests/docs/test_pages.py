"""The pages: one for each diagnostic by one template, tables and figures that are there, links that lead somewhere."""

import ast
import csv
import re
from pathlib import Path

import pytest

from lightning_ssl_theory import callbacks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DIAGNOSTIC_PAGES = [page for page in sorted((DOCS / "diagnostics").glob("*.md")) if page.stem != "index"]
TEMPLATE = [
    "Which question it answers",
    "Symptom",
    "Formula",
    "How to view it",
    "The shape to look for",
    "Next actions",
    "When it says nothing",
    "Cost",
    "Sources",
]
WRITTEN_FOR_GITHUB = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def test_every_diagnostic_has_a_page():
    titles = " ".join(page.read_text().splitlines()[0] for page in DIAGNOSTIC_PAGES)
    classes = [getattr(callbacks, name) for name in callbacks.__all__ if name[0].isupper()]
    diagnostics = [one for one in classes if issubclass(one, callbacks.Diagnostic)]
    bases = {base for one in diagnostics for base in one.__mro__[1:]}
    assert [one.__name__ for one in diagnostics if one not in bases and one.__name__ not in titles] == []


@pytest.mark.parametrize("page", DIAGNOSTIC_PAGES, ids=lambda page: page.stem)
def test_page_follows_the_template(page):
    text = page.read_text()
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == TEMPLATE
    assert f"../shapes/{page.stem}.svg" in text
    assert f"({page.name})" in (DOCS / "diagnostics/index.md").read_text()


@pytest.mark.parametrize("page", [*WRITTEN_FOR_GITHUB, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    figures = re.findall(r"^```\{figure\} (.*)$", page.read_text(), flags=re.MULTILINE)
    assert [link for link in [*links, *figures] if link and not (page.parent / link).exists()] == []


def test_every_table_of_results_is_there():
    shown = re.findall(r"^```\{verdicts\} (.*)$", "\n".join(page.read_text() for page in PAGES), re.MULTILINE)
    kept = [folder.name for folder in sorted((DOCS / "results").iterdir())]
    assert sorted(shown) == kept
    for name in kept:
        assert {"verdicts.csv", "made.json"} <= {path.name for path in (DOCS / "results" / name).iterdir()}
        assert (ROOT / f"examples/reproduce/{name}.py").is_file()


def test_every_claim_shown_is_one_that_its_script_makes():
    """A script that changed its claims has to be run anew."""
    for folder in sorted((DOCS / "results").iterdir()):
        script = (ROOT / f"examples/reproduce/{folder.name}.py").read_text()
        calls = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Call) and node.args]
        firsts = [call.args[0] for call in calls if _name(call.func).endswith("_verdict")]
        patterns = [_pattern(first) for first in firsts]
        with (folder / "verdicts.csv").open(newline="") as file:
            claims = [row["claim"] for row in csv.DictReader(file)]
        assert [claim for claim in claims if not any(re.match(one, claim) for one in patterns)] == []


def _name(function: ast.expr) -> str:
    return getattr(function, "id", "") or getattr(function, "attr", "")


def _pattern(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) for part in node.values)
    return re.escape(str(node.value)) if isinstance(node, ast.Constant) else ".*"
