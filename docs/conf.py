"""How Sphinx builds these pages: `sphinx-build -n -W docs build/docs`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.insert(0, str(HERE.parent))  # a clone that was never installed

import lightning_ssl_theory

project = "lightning-ssl-theory"
author = "the lightning-ssl-theory maintainers"
project_copyright = f"2026, {author}"
release = version = lightning_ssl_theory.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "key_tables",
    "mathml",
    "result_tables",
    "plain_docstrings",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
default_role = "code"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the Args sections say shapes and units, which a type does not
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!lightning_ssl_theory).*"),  # what other libraries define
    ("py:class", r"lightning_ssl_theory\.tracing\..*"),  # what operators return parts of, and no page shows
]

pygments_style, pygments_dark_style = "default", "github-dark"
html_theme = "furo"
html_title = "lightning-ssl-theory"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2f6db5", "color-brand-content": "#2f6db5"},
    "dark_css_variables": {"color-brand-primary": "#8ab6e8", "color-brand-content": "#8ab6e8"},
}
