"""The README is short, its Python blocks run, and the commands that .ci/run takes from it are there."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_block_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def test_it_is_short():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("marker", ["ci:test", "ci:demo"])
def test_marked_command_is_a_block(marker):
    assert re.search(rf"^<!-- {marker} -->\n```bash\n.+\n```$", README, flags=re.MULTILINE)
