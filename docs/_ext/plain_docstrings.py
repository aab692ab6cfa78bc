"""Docstrings are written to be read as they stand: |x|, W^T W_ and x* are no markup there, except in math and examples."""

import re
from typing import Any

from sphinx.application import Sphinx

_LITERAL = re.compile(r"(``.*?``|`.*?`)")


def escape(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Escape what reStructuredText would read as a substitution, a reference or an emphasis."""
    math_indent: int | None = None
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if math_indent is not None and line.strip() and indent <= math_indent:
            math_indent = None
        if line.lstrip().startswith(".. math::"):
            math_indent = indent
        if math_indent is None and not line.lstrip().startswith((">>>", "...", ":", "..", "=")):
            lines[number] = "".join(map(_escaped, _LITERAL.split(line)))


def _escaped(part: str) -> str:
    if part.startswith("`"):
        return part
    part = re.sub(r"(?<!\\)\|", r"\\|", part)
    part = re.sub(r"(?<=\w)_(?!\w)", r"\\_", part)
    return re.sub(r"(?<![*\\])\*(?!\*)(?=\S)", r"\\*", part)


def hide(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leave out what a class has from Lightning or torch: hooks and states that no user calls."""
    module, text = getattr(obj, "__module__", None) or "", getattr(obj, "__doc__", None)
    is_ours = isinstance(obj, property) or module.startswith("lightning_ssl_theory")
    if what == "class" and (name in HOOKS or name.startswith("on_") or not text or not is_ours):
        return True
    return None


HOOKS = {
    *("setup", "teardown", "state_dict", "load_state_dict", "state_key", "identity", "forget", "check", "open"),
    *("observe", "measure", "close", "layers_of", "pictures", "update", "compute", "exchange", "forward"),
    *("training_step", "validation_step", "configure_optimizers", "pair_weight"),
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Listen to autodoc, before napoleon has made fields of the sections."""
    app.connect("autodoc-process-docstring", escape, priority=400)
    app.connect("autodoc-skip-member", hide)
    return {"parallel_read_safe": True}
