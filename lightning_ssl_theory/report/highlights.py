"""The key quantities of a run, from first value to last: for the report's cards and the results table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from lightning_ssl_theory.report.axis import number_text
from lightning_ssl_theory.report.logged_run import Run, Series

_Reduction = Literal["each", "mean", "max"]

_CHOSEN: tuple[tuple[str, str, str, _Reduction], ...] = (
    ("probe", "logistic_top1", "Logistic probe", "each"),
    ("probe", "logistic_top1_10_labels", "Probe, 10 labels each", "each"),
    ("probe", "ridge_top1", "Ridge probe", "each"),
    ("collapse", "effective_rank", "Effective rank", "each"),
    ("orthogonality", "drift", "Orthogonality drift", "max"),
    ("covariance", "residual", "Gradient residual", "mean"),
    ("selectivity", "selective_share", "Selective neurons", "mean"),
    ("train", "loss", "Training loss", "each"),
    ("overhead", "seconds", "Time spent looking", "each"),
    ("covariance", "signal_ratio", "Signal share", "mean"),
    ("feature_norms", "sparse_share", "Sparse share", "mean"),
    ("feature_norms", "firing_rate", "Firing rate", "mean"),
)
_MAX_EACH = 3
TITLES = tuple(title for _, _, title, _ in _CHOSEN)


class Highlight(NamedTuple):
    """One key quantity.

    Attributes:
        title: Its name.
        where: The layer, or how the layers were summed up; "" where there is nothing to add.
        unit: "%" for a share in [0, 1].
        values: From the first to the last.
    """

    title: str
    where: str
    unit: str
    values: tuple[float, ...]

    @property
    def first(self) -> str:
        """The first value as text."""
        return number_text(self.values[0], self.unit)

    @property
    def last(self) -> str:
        """The last value as text."""
        return number_text(self.values[-1], self.unit)


def highlights(run: Run) -> list[Highlight]:
    """The key quantities that a run holds.

    Args:
        run: One run; its sub-runs are not looked at.

    Returns:
        One entry a quantity and layer, or a quantity alone where layers are summed up.
    """
    found: list[Highlight] = []
    has_logistic = bool(run.quantity("probe", "logistic_top1"))
    for section, name, title, reduction in _CHOSEN:
        series = run.quantity(section, name)
        if not series or (name == "ridge_top1" and has_logistic):
            continue
        unit = series[0].key.quantity.unit if series[0].key.quantity else ""
        if section == "overhead":
            found += _overhead(run, series, title)
        elif reduction == "each" and len(series) <= _MAX_EACH:
            found += [Highlight(title, one.key.layer, unit, one.values) for one in series]
        else:
            found.append(Highlight(title, _where(series, reduction), unit, _reduced(series, reduction)))
    return found


def _reduced(series: Sequence[Series], reduction: _Reduction) -> tuple[float, ...]:
    columns = zip(*(one.values[-min(len(s.values) for s in series) :] for one in series), strict=True)
    if reduction == "max":
        return tuple(max(column) for column in columns)
    return tuple(sum(column) / len(series) for column in columns)


# Of the whole run, and not the logged share, which is that up to the last look.
def _overhead(run: Run, series: Sequence[Series], title: str) -> list[Highlight]:
    seconds = sum(one.last for one in series)
    if isinstance(total := run.facts.get("seconds"), int | float) and total > 0:
        return [Highlight(title, "share of the run", "%", (min(1.0, seconds / total),))]
    return [Highlight(title, "seconds", "", (seconds,))]


def _where(series: Sequence[Series], reduction: _Reduction) -> str:
    if len(series) == 1:
        return series[0].key.layer
    return f"{'largest' if reduction == 'max' else 'mean'} of {len(series)} layers"
