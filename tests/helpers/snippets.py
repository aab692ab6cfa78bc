"""The Python blocks of a Markdown page, run one after the other as a reader would."""

import importlib.util
import re
from pathlib import Path

_BLOCK = re.compile(r"(?:<!-- needs: (?P<needs>\w+) -->\n)?```python\n(?P<code>.*?)```", flags=re.DOTALL)


def run_page(page: Path) -> list[str]:
    """Run a page's blocks in one namespace; one marked `<!-- needs: PACKAGE -->` only where that is installed.

    Returns:
        The packages that were missing.
    """
    text, namespace, missing = page.read_text(), {"__name__": "__page__"}, []
    for match in _BLOCK.finditer(text):
        if match["needs"] and importlib.util.find_spec(match["needs"]) is None:
            missing.append(match["needs"])
            continue
        line = text.count("\n", 0, match.start("code"))
        exec(compile("\n" * line + match["code"], str(page), "exec"), namespace)
    return missing


def has_blocks(page: Path) -> bool:
    return _BLOCK.search(page.read_text()) is not None
