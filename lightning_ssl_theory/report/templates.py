"""The page's parts as jinja2 templates, in which every text of a run is escaped."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

_FOLDER = Path(__file__).parent / "templates"


def rendered(template: str, **values: Any) -> Markup:
    """HTML of a template.

    Args:
        template: Name of a file in `templates/`.
        **values: What it shows; text is escaped, `Markup` from another template is not.

    Returns:
        The HTML.
    """
    return Markup(_environment().get_template(template).render(**values))


def asset(name: str) -> Markup:
    """A style sheet or a script, as it is.

    Args:
        name: Name of a file in `templates/`.

    Returns:
        Its text.
    """
    return Markup((_FOLDER / name).read_text(encoding="utf-8").strip())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # a number and its unit stay on one line
    environment.filters["unbroken"] = lambda text: str(text).replace(" %", "\N{NO-BREAK SPACE}%")
    # names of arguments, in our own texts between backticks
    environment.filters["coded"] = _coded
    return environment


def _coded(text: str) -> Markup:
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))
