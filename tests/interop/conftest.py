"""Options of the interop tests, and the table that they print."""

from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-architectures", action="store_true", help="run every architecture, not CI's part")
    parser.addoption("--architecture-table", metavar="PATH", help="write what each look covers, as Markdown")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all-architectures", default=False):
        skip = pytest.mark.skip(reason="runs with --all-architectures")
        for item in items:
            if item.get_closest_marker("all_architectures"):
                item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Weight shares of all networks that ran; with the option also what is left out of each look and why."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    rows = [dict(report.user_properties).get("architecture") for report in reports if report.when == "call"]
    rows = sorted(row for row in rows if row)
    if rows:
        terminalreporter.section("share of the trainable weights in a look")
    for name, share, *_ in rows:
        terminalreporter.write_line(f"{share:6.3f}  {name}")
    path = config.getoption("--architecture-table", default=None)
    if path:
        lines = ["| architecture | weight share | what is special | left out, and why |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {share:.3f} | {special} | {' '.join(sentences).replace('|', '/') or '–'} |"
            for name, share, special, sentences in rows
        ]
        Path(path).write_text("\n".join(lines) + "\n")
