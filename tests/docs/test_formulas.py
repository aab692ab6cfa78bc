"""Formulas of the pages as MathML: known commands, space around names, lines of a block."""

import re
import sys
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("latex2mathml", reason="comes with the extras docs and test")
pytest.importorskip("sphinx", reason="comes with the extra docs")
sys.path.insert(0, str(ROOT / "docs/_ext"))
from mathml import mathml  # noqa: E402


def texts(latex, **options):
    return [part.text or part.tag.split("}")[-1] for part in fromstring(mathml(latex, **options))[0]]


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"\log x", ["log", "mspace", "x"]),
        (r"2 \log_2 x", ["2", "mspace", "msub", "mspace", "x"]),
        (r"\log (x)", ["log", "(", "x", ")"]),
        (r"a < b", ["a", "<", "b"]),
        (r"a b", ["a", "b"]),
    ],
)
def test_names_stand_apart(latex, expected):
    assert texts(latex) == expected


def test_lines_of_a_block_are_rows():
    found = fromstring(mathml(r"a &= b \\ &= c", is_block=True))
    assert len([part for part in found.iter() if part.tag.endswith("mtr")]) == 2


def test_unknown_commands_are_refused():
    with pytest.raises(ValueError, match=r"Expected commands that latex2mathml knows, got \\arg; write it"):
        mathml(r"\arg x")


def test_every_formula_of_the_pages_is_known():
    formulas = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        formulas += re.findall(
            r"(?<![\w\\$])\$([^$\n]+)\$(?!\w)",
            re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL),
        )
    for source in [*(ROOT / "lightning_ssl_theory").rglob("*.py"), *(ROOT / "callbacks").glob("*.py")]:
        formulas += re.findall(r":math:`([^`]+)`", source.read_text())
    assert len(formulas) > 100
    for formula in formulas:
        fromstring(mathml(formula))
