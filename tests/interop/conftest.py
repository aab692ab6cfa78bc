"""Options of the interop tests, and the table that they print."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-architectures", action="store_true", help="run every architecture, not CI's subset"
    )
    parser.addoption(
        "--architecture-table", metavar="PATH", help="write the table of architectures as Markdown"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all-architectures", default=False):
        skip = pytest.mark.skip(reason="runs with --all-architectures")
        for item in items:
            if item.get_closest_marker("all_architectures"):
                item.add_marker(skip)
