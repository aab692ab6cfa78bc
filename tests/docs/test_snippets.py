"""Every Python block of the documentation runs, from the page itself."""

from pathlib import Path

import pytest
from helpers.snippets import has_blocks, run_page

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if has_blocks(page)]


@pytest.mark.filterwarnings("ignore:::lightning", "ignore:::pytorch_lightning", "ignore:.*treespec:FutureWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    missing = run_page(page)
    if missing:
        pytest.skip(f"ran but for the blocks that need {', '.join(missing)}, which is not installed")
