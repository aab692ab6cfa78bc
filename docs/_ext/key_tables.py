"""The directive `keys`: the table of logged keys, of one section or of all, from `report/key_table.py`."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lightning_ssl_theory.report.keys import SECTIONS, keys_as_markdown


class Keys(SphinxDirective):
    """Rows of the table of keys: of the section that its argument names, or of every section under its heading."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table, or a heading, a sentence and a table for each section."""
        if self.arguments:
            return _breaking_at_slashes(self.parse_text_to_nodes(keys_as_markdown(self.arguments[0])))
        parts = (
            f"## {one.title}\n\n{one.intro} Logged by {one.source}.\n\n{keys_as_markdown(one.name)}"
            for one in SECTIONS
        )
        text = "\n\n".join(parts)
        return _breaking_at_slashes(self.parse_text_to_nodes(text, allow_section_headings=True))


def _breaking_at_slashes(found: list[nodes.Node]) -> list[nodes.Node]:
    """Let long keys break on a narrow screen, after a slash or an underscore and nowhere else."""
    for literal in [one for node in found for one in node.findall(nodes.literal)]:
        pieces = re.split(r"(?<=[/_])", literal.astext())
        literal.clear()
        for piece in pieces:
            literal += [nodes.Text(piece), nodes.raw("", "<wbr>", format="html")]
    return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("keys", Keys)
    return {"parallel_read_safe": True}
