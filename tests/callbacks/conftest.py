"""`--all-cases` runs the whole table of what training is like with and without each diagnostic."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-cases", action="store_true", help="every diagnostic in every kind of training")
