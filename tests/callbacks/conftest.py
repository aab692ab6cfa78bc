"""`--all-cases` runs the whole table of what training is like with and without each diagnostic; `--steps N` watches memory."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-cases", action="store_true", help="every diagnostic in every kind of training")
    parser.addoption("--steps", type=int, help="how long memory is watched; not at all by default")
