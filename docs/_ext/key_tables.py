"""The directive `keys`: the table of logged keys, of one section or of all, from `report/key_table.py`."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lightning_ssl_theory.report import key_table
from lightning_ssl_theory.report.keys import SECTIONS, Section, keys_as_markdown


class Keys(SphinxDirective):
    """Rows of the table of keys: of the section that its argument names, or of every section under its heading."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table, or a heading, a sentence and a table for each section."""
        self.env.note_dependency(key_table.__file__)
        if self.arguments:
            return self._table(self.arguments[0])
        return [self._section(one) for one in SECTIONS]

    def _section(self, section: Section) -> nodes.section:
        found = nodes.section("", nodes.title("", section.title), ids=[nodes.make_id(section.title)])
        text = (
            f"{section.intro} Logged by {section.source}. Good: {section.good[0].lower()}{section.good[1:]}"
        )
        found += nodes.paragraph("", text)
        found += self._table(section.name)
        return found

    def _table(self, section: str) -> list[nodes.Node]:
        return _breaking_at_slashes(self.parse_text_to_nodes(keys_as_markdown(section)))


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
