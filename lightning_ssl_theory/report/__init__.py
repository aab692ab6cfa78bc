"""The face of a run: a self-contained report.html, a table of results, and the table of every logged key."""

from typing import TYPE_CHECKING, Any

from lightning_ssl_theory.report.keys import keys_as_markdown
from lightning_ssl_theory.report.logged_run import RunFolderError, read_run
from lightning_ssl_theory.report.page import render_report
from lightning_ssl_theory.report.reproduction import Reproduction, Verdict
from lightning_ssl_theory.report.results_table import results_table
from lightning_ssl_theory.report.trials import run_trials
from lightning_ssl_theory.report.write import write_report

if TYPE_CHECKING:
    from lightning_ssl_theory.report.run_report import RunReport

__all__ = [
    "Reproduction",
    "RunFolderError",
    "RunReport",
    "Verdict",
    "keys_as_markdown",
    "read_run",
    "render_report",
    "results_table",
    "run_trials",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # a report is rebuilt without importing Lightning, ten seconds sooner
    if name == "RunReport":
        from lightning_ssl_theory.report.run_report import RunReport

        return RunReport
    raise AttributeError(f"module 'lightning_ssl_theory.report' has no attribute {name!r}")
