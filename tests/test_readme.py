"""The README's Python blocks run, and its table of keys is the one that the report uses."""

import re
from pathlib import Path

import pytest

from lightning_ssl_theory.report.keys import keys_as_markdown

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_block_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def test_table_of_keys_is_current():
    table = README.split("<!-- keys:begin -->")[1].split("<!-- keys:end -->")[0]
    assert table.strip() == keys_as_markdown(), "run: python -m lightning_ssl_theory.report.keys"
