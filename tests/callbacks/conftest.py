"""`--steps N` watches memory over many looks."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--steps", type=int, help="how long memory is watched; not at all by default")
