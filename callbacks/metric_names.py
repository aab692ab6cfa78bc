"""The metric names of a diagnostic at Weights & Biases: what they are drawn over, and no more than a run bears."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

MAX_NAMES = 5000
"""Most metric names of a run at Weights & Biases, whose pages draw no panels by themselves from there on."""
STEP = "trainer/global_step"
"""The number of optimiser steps, under the name that Lightning's logger gives it."""


class MetricNames:
    """The names that one callback logs: each is announced once, before its first value.

    Announced are the optimiser step as its axis, and what the run's summary keeps of it: the last value, and for
    quantities with a `best` one that too, as `<name>.min` or `<name>.max` beside `<name>.last`.

    Args:
        best: "min" or "max" by quantity, the last part of a name.

    Attributes:
        sent: The names that Weights & Biases gets.
        left_out: The names beyond what a run bears, which it does not get.
    """

    def __init__(self, best: Mapping[str, str]) -> None:
        self._best = dict(best)
        self.sent: set[str] = set()
        self.left_out: set[str] = set()

    def forget(self) -> None:
        """Announce all names again, as for another run."""
        self.sent, self.left_out = set(), set()

    def announce(self, loggers: Iterable[Any], names: Collection[str], others: Collection[str]) -> None:
        """Decide on new names, and announce those that fit.

        Args:
            loggers: Those of the run; any that is not of Weights & Biases is passed over.
            names: That are about to be logged.
            others: Names that the run has from elsewhere.
        """
        definers = [define for define in map(_definer, loggers) if define is not None]
        new = [name for name in names if name not in self.sent and name not in self.left_out]
        room = max(0, MAX_NAMES - len(set(others) | self.sent))
        # python's sort keeps the order of layers among names that matter alike
        chosen = set(sorted(new, key=_rank)[:room]) if definers else set(new)
        self.left_out |= set(new) - chosen
        self.sent |= chosen
        for define in definers:
            for name in new:
                if name in chosen:
                    # an unescaped dot would lead into a nested value
                    define(name.replace(".", r"\."), step_metric=STEP, summary=self._summary(name))

    def for_logger(self, logger: Any, values: Mapping[str, float]) -> dict[str, float]:
        """What of some values a logger gets."""
        is_all = not self.left_out or _definer(logger) is None
        return {name: value for name, value in values.items() if is_all or name not in self.left_out}

    def sentence(self, source: str) -> str | None:
        """Says what is left out, if anything is.

        Args:
            source: Who logs the names.

        Returns:
            One sentence.
        """
        if not self.left_out:
            return None
        examples = ", ".join(map(repr, sorted(self.left_out)[:3]))
        return (
            f"Expected at most {MAX_NAMES:,} metric names in a run at Weights & Biases, {source} brings more: "
            f"{len(self.left_out):,} of them are left out there, such as {examples}; other loggers and metrics.csv "
            "have all, and fewer `layers=` need fewer."
        )

    def _summary(self, name: str) -> str | None:
        best = self._best.get(name.rsplit("/", 1)[-1])
        return None if best is None else f"{best},last"


# an error of an estimate is missed least, then the numbered ones, such as eigenvalues
def _rank(name: str) -> int:
    if name.endswith(("_error95", "_stderr")):
        return 2
    return int(re.search(r"_\d+", name.rsplit("/", 1)[-1]) is not None)


# a logger's own `define_metric`, which may be guarded, goes before that of its run
def _definer(logger: Any) -> Any:
    own = getattr(logger, "define_metric", None)
    return own or (
        getattr(logger.experiment, "define_metric", None) if hasattr(logger, "log_table") else None
    )
