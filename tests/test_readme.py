"""The Python blocks of the README and of the docs run, and the table of keys is the one that the report uses."""

import re
from pathlib import Path

import pytest

from lightning_ssl_theory.report.keys import keys_as_markdown

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = [
    pytest.param(block, page.name, id=f"{page.stem}-{number}")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))
]


@pytest.mark.parametrize(("block", "page"), BLOCKS)
def test_python_block_runs(block, page):
    exec(compile(block, page, "exec"), {})


def test_table_of_keys_is_current():
    table = README.split("<!-- keys:begin -->")[1].split("<!-- keys:end -->")[0]
    assert table.strip() == keys_as_markdown(), "run: python -m lightning_ssl_theory.report.keys"
