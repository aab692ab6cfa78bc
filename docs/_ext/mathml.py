"""Formulas as MathML, made when the pages are built: they are drawn without a script and without a network."""

from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import Element, tostring

from docutils import nodes
from latex2mathml.converter import convert_to_element
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_LOGGER = logging.getLogger(__name__)
_ROWS = {"math", "mrow", "mtd"}  # of other elements the place of a child has a meaning
_SCRIPTS = {"msub", "msup", "msubsup", "munder", "mover", "munderover"}


def mathml(latex: str, *, is_block: bool = False) -> str:
    r"""One formula as MathML.

    Args:
        latex: In LaTeX; `\\` and `&` of a block break and align its lines.
        is_block: Whether it stands on lines of its own.

    Returns:
        A <math> element.

    Raises:
        ValueError: If it holds a command that is not known.
    """
    text = latex.strip()
    if is_block and r"\\" in text and r"\begin" not in text:
        text = rf"\begin{{align*}}{text}\end{{align*}}"
    found = convert_to_element(text, display="block" if is_block else "inline")
    unknown = [part.text for part in found.iter() if "\\" in (part.text or "")]
    if unknown:
        raise ValueError(f"Expected commands that latex2mathml knows, got {unknown[0]}; write it otherwise.")
    for row in found.iter():
        if row.tag in _ROWS:
            row[:] = _spaced(list(row))
    return tostring(found, encoding="unicode").replace("&amp;#x", "&#x")


def _spaced(parts: list[Element]) -> list[Element]:
    # log x and 2 log x, not logx and 2logx
    spaced = parts[:1]
    for before, after in pairwise(parts):
        if (_is_name(before) or _is_name(after)) and not {before.tag, after.tag} & {"mo", "mspace"}:
            spaced.append(Element("mspace", width="0.167em"))
        spaced.append(after)
    return spaced


def _is_name(part: Element) -> bool:
    if part.tag in _SCRIPTS:
        return _is_name(part[0])
    return part.tag == "mi" and len(part.text or "") > 1 and (part.text or "").isalpha()


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    self.body.append(f'<span class="math">{_of_node(node)}</span>')
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula that stands alone."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate"))
    self.body.append(f"{_of_node(node)}</div>\n")
    raise nodes.SkipNode


def _of_node(node: nodes.math | nodes.math_block) -> str:
    try:
        return mathml(node.astext(), is_block=isinstance(node, nodes.math_block))
    except Exception as error:  # of whatever kind: the page must not be built without its formula
        _LOGGER.warning("formula that is no MathML: %r: %r", node.astext(), error, location=node)
        return ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the writer of formulas."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
