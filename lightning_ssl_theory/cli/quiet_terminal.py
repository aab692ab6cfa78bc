"""What is shown while a model trains: what the diagnostics say in a sentence each, and nothing of other products."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning_ssl_theory.warnings import DiagnosticWarning

# of Lightning's own code, and of the run folder, which is meant to hold files
_UNASKED = (
    "Checkpoint directory",
    "`isinstance\\(treespec",
    "The dirpath has changed",
    "Using a non-tuple sequence",
    r"\s*Unable to serialize",
)


@contextmanager
def quiet_terminal() -> Iterator[None]:
    """Hide hints that no user of this command line can follow, and print warnings of diagnostics without our code."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(_is_no_tip)
    try:
        with warnings.catch_warnings():
            for start in _UNASKED:
                warnings.filterwarnings("ignore", message=start)
            others = warnings.showwarning

            def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
                if issubclass(category, DiagnosticWarning):
                    print(f"Warning: {message}", file=sys.stderr)
                else:
                    others(message, category, *rest)

            warnings.showwarning = show  # type: ignore[assignment]
            yield
    finally:
        logger.removeFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
