"""What the numbers say of probes: one that falls while the loss falls, one that never gained, one that rises."""

from __future__ import annotations

from collections.abc import Callable

from lightning_ssl_theory.report.axis import number_text
from lightning_ssl_theory.report.findings.finding import Placed, Rule, Severity, Statement, curve_of
from lightning_ssl_theory.report.findings.trend import Curve, fall, is_more_than_noise, since_start
from lightning_ssl_theory.report.logged_run import Run, Series

SMALL = 0.02
_BEST_FIRST = ("logistic_top1", "ridge_top1")


def falling_probe(layer: str, accuracy: Curve, loss: Curve | None) -> Statement | None:
    """A probe that has fallen from its best, and whether the loss fell meanwhile.

    Args:
        layer: The probed layer.
        accuracy: Share of held-out images that the probe names correctly.
        loss: The training loss, where it was logged.

    Returns:
        A sentence after a fall by two percentage points.
    """
    change = fall(accuracy)
    if change is None or change.before - change.after <= SMALL:
        return None
    text = (
        f"The probe on {layer} fell from {number_text(change.before, '%')} to {number_text(change.after, '%')} since "
        f"step {change.since:,.0f}"
    )
    if loss is not None and _falls_after(loss, change.since):
        text += ", while the loss went on falling: what it still learns is not what tells the classes apart"
    return Statement(Severity.PROBLEM, f"{text}.", change.before - change.after)


def probe_without_gain(layer: str, accuracy: Curve) -> Statement | None:
    """A probe that is no better than at its first look.

    Args:
        layer: The probed layer.
        accuracy: Share of held-out images that the probe names correctly.

    Returns:
        A sentence where the last window is not above the first by more than noise, and it has not fallen either.
    """
    change = since_start(accuracy)
    if change is None or _is_gain(accuracy) or falling_probe(layer, accuracy, None) is not None:
        return None
    return Statement(
        Severity.WATCH,
        f"The probe on {layer} is no better than at its first looks: {number_text(change.before, '%')} then, "
        f"{number_text(change.after, '%')} now, {change.of_means}.",
        change.before - change.after,
    )


def rising_probe(layer: str, accuracy: Curve) -> Statement | None:
    """A probe that has risen and stayed up.

    Args:
        layer: The probed layer.
        accuracy: Share of held-out images that the probe names correctly.

    Returns:
        A sentence where the last window is above the first by more than noise and it has not fallen since.
    """
    change = since_start(accuracy)
    if change is None or not _is_gain(accuracy) or falling_probe(layer, accuracy, None) is not None:
        return None
    return Statement(
        Severity.GOOD,
        f"The probe on {layer} rose from {number_text(change.before, '%')} to {number_text(change.after, '%')}, "
        f"{change.of_means}.",
        change.after - change.before,
    )


def _is_gain(accuracy: Curve) -> bool:
    change = since_start(accuracy)
    return change is not None and change.after > change.before and is_more_than_noise(change, accuracy)


# Whether the loss after a step is lower at the end than at the start, by more than its noise.
def _falls_after(loss: Curve, step: float) -> bool:
    later = [(at, value) for at, value in zip(loss.steps, loss.values, strict=True) if at >= step]
    if len(later) < 2:
        return False
    rest = Curve(*zip(*later, strict=True))
    change = since_start(rest)
    return change is not None and change.after < change.before and is_more_than_noise(change, rest)


def _probes(run: Run) -> list[Series]:
    # of each layer one with all labels: the best known kind, else the first that was logged, such as a kNN
    found: dict[str, Series] = {}
    named = [series for name in _BEST_FIRST for series in run.quantity("probe", name)]
    for series in [*named, *run.section("probe")]:
        if series.key.name.endswith("_top1"):
            found.setdefault(series.key.layer, series)
    return list(found.values())


def _fallen(run: Run) -> list[Placed]:
    losses = run.quantity("train", "loss")
    loss = curve_of(run, losses[0]) if losses else None
    placed = []
    for series in _probes(run):
        if statement := falling_probe(series.key.layer, curve_of(run, series), loss):
            placed.append(Placed(statement, "probe", series.key.name, series.key.layer))
    return placed


def _of_probes(check: Callable[[str, Curve], Statement | None]) -> Callable[[Run], list[Placed]]:
    def look(run: Run) -> list[Placed]:
        found = [(one, check(one.key.layer, curve_of(run, one))) for one in _probes(run)]
        return [Placed(said, "probe", one.key.name, one.key.layer) for one, said in found if said]

    return look


RULES = (
    Rule(
        "falling probe",
        "The accuracy has fallen from its highest window by two percentage points and by more than four standard "
        "errors. Whether the loss fell meanwhile is judged from the step of that window on, by the same measure.",
        "Keep the checkpoint of the highest accuracy (`ModelCheckpoint(monitor=...)`), and see which of rank, "
        "selectivity and signal share fell at that step.",
        _fallen,
    ),
    Rule(
        "probe without gain",
        "The last window is not above the first by more than four standard errors, and the rule above is silent.",
        "Random features carry a probe a long way; ask whether the augmentation leaves what the classes differ in.",
        _of_probes(probe_without_gain),
    ),
    Rule(
        "rising probe",
        "The last window is above the first by more than four standard errors, and the accuracy has not fallen since.",
        "Nothing to do; while it rises, longer training may pay.",
        _of_probes(rising_probe),
    ),
)
