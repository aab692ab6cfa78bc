"""One option: every row of the table, not only the quick ones that the suite runs."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-row", action="store_true", help="compare every module and callback on 2 and 3 ranks, too"
    )
