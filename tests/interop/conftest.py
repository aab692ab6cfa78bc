"""Options of the interop tests, and the table that they write."""

from typing import Any

import pytest

from .table import README, Row, with_table


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-architectures", action="store_true", help="run every architecture, not CI's part")
    parser.addoption("--write-table", action="store_true", help="the same, and write the table of README.md")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    options = ("--all-architectures", "--write-table")  # unknown where the tests are run from the root
    if not any(config.getoption(option, default=False) for option in options):
        skip = pytest.mark.skip(reason="runs with --all-architectures")
        for item in items:
            if item.get_closest_marker("all_architectures"):
                item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Weight shares of all networks that ran; with the option also the table."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    found = [dict(report.user_properties).get("architecture") for report in reports if report.when == "call"]
    rows = sorted(Row(*row) for row in found if row)
    if rows:
        terminalreporter.section("share of the trainable weights in a look")
    for row in rows:
        terminalreporter.write_line(f"{row.share:6.3f}  {row.name}")
    if config.getoption("--write-table", default=False):
        README.write_text(with_table(README.read_text(), rows))
