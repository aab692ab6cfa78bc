"""Imports go downwards only, for every file of the package: which room may import what is DESIGN's table."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = "lightning_ssl_theory"
GROUND = {"checks", "distributed", "moments", "row_blocks", "warnings"}
ROOT_FILES = {"__init__", "__main__", "_checkout"}  # what a user starts from: they lead to every room
THEORY = {
    "tracing",
    "operators",
    "losses",
    "metrics",
    "probes",
    "manifolds",
    "flows",
    "sparse_coding",
    "networks",
}
ROOMS = THEORY | {"data", "modules"}
PLAIN = {"torch", "numpy", "scipy"}
ALLOWED = {
    **{name: {"torch", "numpy", "distributed", "checks"} for name in GROUND},
    "tracing": PLAIN | GROUND,
    "operators": PLAIN | GROUND | {"tracing"},
    "losses": PLAIN | GROUND,
    "metrics": PLAIN | GROUND | {"torchmetrics", "sparse_coding", "networkx"},
    "probes": PLAIN | GROUND | {"sklearn", "joblib"},
    "manifolds": PLAIN | GROUND,
    "flows": PLAIN | GROUND,
    "sparse_coding": PLAIN | GROUND,
    "networks": PLAIN | GROUND | {"torchvision", "sklearn", "manifolds"},
    "data": PLAIN | GROUND | {"torchvision", "sklearn", "sparse_coding", "lightning", "PIL"},
    "modules": PLAIN | GROUND | ROOMS | {"lightning"},
    "callbacks": PLAIN
    | GROUND
    | ROOMS - {"modules"}
    | {"lightning", "torchmetrics", "torchvision", "matplotlib", "PIL", "wandb"},
    "report": PLAIN
    | GROUND
    | {
        "tracing",
        "lightning",
        "joblib",
        "matplotlib",
        "jinja2",
        "markupsafe",
        "PIL",
        "rich",
        "cycler",
        "wandb",
        "google",
    },
}
STANDS_ABOVE = {"cli", *ROOT_FILES}


def place(file):
    """The room of a file, or its own name where it stands at the root."""
    folder, *rest = file.relative_to(ROOT).parts
    return folder if folder == "callbacks" else rest[0].removesuffix(".py")


def imports(path):
    """What a file imports: a package, or a room of this one; a sibling by one dot is its own room."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path} imports from above"
            names = [] if node.level else [node.module]
            if node.module == NAME:
                names = [f"{NAME}.{alias.name}" for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            if name != "warnings":  # that of Python, not the file of the ground
                yield rest[0] if first == NAME and rest else first


FILES = sorted([*(ROOT / NAME).rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")])


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_downwards(file):
    room = place(file)
    if room in STANDS_ABOVE:
        return
    assert room in ALLOWED, f"{room} has no line in the table"
    found = {name for name in imports(file) if name in GROUND or name not in sys.stdlib_module_names} - {room}
    assert found <= ALLOWED[room], f"{room} imports {sorted(found - ALLOWED[room])}"


def test_the_table_and_the_house_agree():
    rooms = {place(file) for file in FILES}
    assert rooms == set(ALLOWED) | STANDS_ABOVE
    assert FILES
