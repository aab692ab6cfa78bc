"""What the numbers say of the looks themselves: layers left out, diagnostics that fell silent, what looking cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from lightning_ssl_theory.report.axis import number_text
from lightning_ssl_theory.report.findings.finding import Placed, Rule, Severity, Statement
from lightning_ssl_theory.report.logged_run import Run

_MIN_LOOKS = 3
_OVERDUE = 3.0
COSTLY, DOMINANT = 0.1, 0.5


def left_out_layer(callback: str, layer: str, reason: str) -> Statement:
    """A layer that a diagnostic could not use.

    Args:
        callback: The diagnostic.
        layer: The layer's name.
        reason: Its own sentence.

    Returns:
        A sentence.
    """
    return Statement(Severity.WATCH, f"{callback} left out {layer}: {reason.strip().rstrip('.')}.")


def silent_diagnostic(name: str, steps: Sequence[float], last_step: float) -> Statement | None:
    """Looks that ended before the run did.

    Args:
        name: What was looked at, as the first parts of its keys.
        steps: Steps of its looks, increasing.
        last_step: Last step of the run.

    Returns:
        A sentence where, after at least three looks, the next is overdue by three of the longest pauses.
    """
    if len(steps) < _MIN_LOOKS:
        return None
    longest = max(after - before for before, after in pairwise(steps))
    if last_step - steps[-1] <= _OVERDUE * longest:
        return None
    return Statement(
        Severity.WATCH,
        f"{name} was looked at for the last time at step {steps[-1]:,.0f}, though the run went on to step "
        f"{last_step:,.0f}.",
        (last_step - steps[-1]) / last_step if last_step > 0 else 0.0,
    )


def costly_looks(shares: Mapping[str, float]) -> Statement | None:
    """Diagnostics that take much of the run.

    Args:
        shares: Share of the run's time that each callback took.

    Returns:
        A sentence where all of them together took more than a tenth.
    """
    total = sum(shares.values())
    if total <= COSTLY:
        return None
    worst = max(shares, key=lambda name: shares[name])
    most = f", {worst} the largest part ({number_text(shares[worst], '%')})" if len(shares) > 1 else ""
    severity = Severity.WATCH if total > DOMINANT else Severity.NOTE
    return Statement(
        severity, f"The diagnostics took {number_text(min(1.0, total), '%')} of the run's time{most}.", total
    )


def overhead_shares(run: Run) -> dict[str, float]:
    """Share of the run's time that each callback took.

    Args:
        run: One run.

    Returns:
        Of the whole run where run.json has its time, else as last logged; by callback.
    """
    total = run.facts.get("seconds")
    if isinstance(total, int | float) and total > 0:
        return {one.key.layer: one.last / total for one in run.quantity("overhead", "seconds")}
    return {one.key.layer: one.last for one in run.quantity("overhead", "share")}


def _left_out(run: Run) -> list[Placed]:
    found = run.facts.get("left_out")
    if not isinstance(found, dict):
        return []
    return [
        Placed(left_out_layer(str(callback), str(layer), str(reason)), "missing", "", str(layer))
        for callback, layers in found.items()
        if isinstance(layers, dict)
        for layer, reason in layers.items()
    ]


def _silent(run: Run) -> list[Placed]:
    looks: dict[tuple[str, str], set[float]] = {}
    for series in run.series.values():
        if series.key.quantity is not None and series.key.section not in {"train", "overhead"}:
            seen = looks.setdefault((series.key.section, series.key.layer), set())
            seen.update(series.steps, series.skipped)
    placed = []
    for (section, layer), steps in looks.items():
        name = f"{section}/{layer}" if layer else section
        if statement := silent_diagnostic(name, sorted(steps), run.last_step or 0.0):
            placed.append(Placed(statement, section, "", name))
    return placed


def _costs(run: Run) -> list[Placed]:
    statement = costly_looks(overhead_shares(run))
    return [Placed(statement, "overhead", "")] if statement else []


RULES = (
    Rule(
        "left-out layer",
        "A diagnostic's last look could not use a layer that it was given, by its own words in run.json.",
        "The sentence names the argument that helps.",
        _left_out,
    ),
    Rule(
        "silent diagnostic",
        "After at least three looks of a layer, none came for more than three times the longest pause between two.",
        "A warning in the run's output says why a look was left out: most often NaN, or no more memory.",
        _silent,
    ),
    Rule(
        "costly looks",
        "All diagnostics together took more than a tenth of the run's time.",
        "Look less often (`every_n_steps`, `every_n_epochs`) or at less (`num_samples`, of probes `num_fit_samples` "
        "too), or bound the share by `max_overhead=0.02`.",
        _costs,
    ),
)
