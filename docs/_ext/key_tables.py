"""The directive `keys`: the table of logged keys, of one section or of all, from `report/key_table.py`."""

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
            return self.parse_text_to_nodes(keys_as_markdown(self.arguments[0]))
        parts = (
            f"## {one.title}\n\n{one.intro} Logged by {one.source}.\n\n{keys_as_markdown(one.name)}"
            for one in SECTIONS
        )
        return self.parse_text_to_nodes("\n\n".join(parts), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("keys", Keys)
    return {"parallel_read_safe": True}
