"""Imports go downwards only: theory imports torch, metrics torchmetrics, modules and callbacks Lightning."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PURE = [
    "losses",
    "operators",
    "metrics",
    "probes",
    "networks",
    "flows",
    "manifolds",
    "distributed.py",
    "tracing",
    "sparse_coding",
]
FORBIDDEN = {
    **dict.fromkeys(
        (f"lightning_ssl_theory/{name}" for name in PURE),
        ("lightning.", "lightning_ssl_theory.modules", "wandb"),
    ),
    "lightning_ssl_theory": ("lightning_ssl_theory.callbacks",),
    "lightning_ssl_theory/modules": ("callbacks",),
    "callbacks": ("lightning_ssl_theory.modules", "lightning_ssl_theory.callbacks", "wandb"),
}
FREE = ("cli", "report")  # the command line and the report stand above everything


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (f"{alias.name}." for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{node.module or ''}." if node.level == 0 else "."


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_downwards(folder):
    place = ROOT / folder
    files = [place] if place.suffix else sorted(place.rglob("*.py"))
    assert files
    for file in files:
        if any(part in FREE for part in file.relative_to(ROOT).parts):
            continue
        for name in imports(file):
            assert not name.startswith(FORBIDDEN[folder]), f"{file.relative_to(ROOT)} imports {name}"
