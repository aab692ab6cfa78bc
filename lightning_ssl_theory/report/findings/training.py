"""What the numbers say of training itself: a loss that is no number, rises or stays, and runs that ended early."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lightning_ssl_theory.report.axis import number_text
from lightning_ssl_theory.report.findings.finding import Placed, Rule, Severity, Statement, curve_of
from lightning_ssl_theory.report.findings.trend import Curve, is_more_than_noise, rise, since_start
from lightning_ssl_theory.report.logged_run import LOSSES, Run

_MIN_LOOKS_TO_STAY = 20


def broken_off(status: str, last_step: float | None) -> Statement | None:
    """A run that ended with an error.

    Args:
        status: What run.json says of its end.
        last_step: The last step that logged anything.

    Returns:
        A sentence where it failed or was interrupted.
    """
    after = "" if last_step is None else f" after step {last_step:,.0f}"
    if status.startswith("failed"):
        return Statement(Severity.BROKEN, f"Training ended with an error{after}: {_short(status[8:])}")
    if status.startswith("interrupted"):
        return Statement(Severity.NOTE, f"Training was interrupted{after}.")
    return None


def lost_number(name: str, finite: Sequence[float], skipped: Sequence[float]) -> Statement | None:
    """A key that ended in NaN or infinity.

    Args:
        name: The key.
        finite: Steps of finite values, increasing.
        skipped: Steps of values that were none.

    Returns:
        A sentence where the latest value was none; it says since when.
    """
    last_finite = finite[-1] if finite else float("-inf")
    since = [step for step in skipped if step > last_finite]
    if not since:
        return None
    severity = Severity.BROKEN if name == "train/loss" else Severity.PROBLEM
    what = "The loss" if name == "train/loss" else name
    return Statement(severity, f"{what} has not been a finite number since step {since[0]:,.0f}.", -since[0])


def never_a_number(name: str) -> Statement:
    """A key that was logged, but never as a finite number.

    Args:
        name: The key.

    Returns:
        A sentence.
    """
    if name == "train/loss":
        return Statement(Severity.BROKEN, "The loss was never a finite number.", float("inf"))
    return Statement(Severity.PROBLEM, f"{name} was never a finite number.", float("inf"))


def rising_loss(loss: Curve) -> Statement | None:
    """A loss that has risen from its lowest.

    Args:
        loss: The training loss.

    Returns:
        A sentence where it has gone back by a quarter of all that it ever moved.
    """
    change, extent = rise(loss), max(loss.values) - min(loss.values)
    if change is None or change.after - change.before <= 0.25 * extent:
        return None
    return Statement(
        Severity.PROBLEM,
        f"The loss has risen from {number_text(change.before)} to {number_text(change.after)} since step "
        f"{change.since:,.0f}.",
        (change.after - change.before) / extent,
    )


def runaway_loss(loss: Curve) -> Statement | None:
    """A loss that has left all bounds.

    Args:
        loss: The training loss.

    Returns:
        A sentence where its size is above a thousand, and above a thousand times that of the first value.
    """
    if abs(loss.last) <= 1000 * max(1.0, abs(loss.first)):
        return None
    return Statement(
        Severity.PROBLEM,
        f"The loss has run away: from {number_text(loss.first)} to {number_text(loss.last)}. Nothing bounds it, or the "
        "learning rate is too large.",
    )


def resting_loss(loss: Curve) -> Statement | None:
    """A loss that has not moved.

    Args:
        loss: The training loss.

    Returns:
        A sentence where its first and last windows, of at least twenty values, differ by no more than noise.
    """
    change = since_start(loss)
    if change is None or len(loss.values) < _MIN_LOOKS_TO_STAY or is_more_than_noise(change, loss):
        return None
    return Statement(
        Severity.WATCH,
        f"The loss is where it was at the start, up to its noise: {number_text(change.before)} then, "
        f"{number_text(change.after)} now, {change.of_means}.",
    )


def falling_loss(loss: Curve) -> Statement | None:
    """A loss that has fallen and stayed down.

    Args:
        loss: The training loss.

    Returns:
        A sentence where the last window is below the first by more than noise, and the loss neither rose nor ran
        away.
    """
    change = since_start(loss)
    if change is None or change.after >= change.before or not is_more_than_noise(change, loss):
        return None
    if rising_loss(loss) is not None or runaway_loss(loss) is not None:
        return None
    before, after = number_text(change.before), number_text(change.after)
    return Statement(Severity.GOOD, f"The loss fell from {before} to {after}, {change.of_means}.")


def _short(text: str) -> str:
    first = (text.strip().splitlines() or [""])[0]
    return first if len(first) <= 300 else f"{first[:299]}…"


def _end(run: Run) -> list[Placed]:
    statement = broken_off(str(run.facts.get("status", "")), run.last_step)
    return [Placed(statement, "train", "loss")] if statement else []


def _numbers(run: Run) -> list[Placed]:
    placed = []
    for series in run.series.values():
        is_loss = (series.key.section, series.key.name) == ("train", "loss")
        name = LOSSES[0] if is_loss else series.column
        if statement := lost_number(name, series.steps, series.skipped):
            placed.append(Placed(statement, series.key.section, series.key.name, series.column))
    for column in run.empty:
        name = LOSSES[0] if column in LOSSES else column
        placed.append(Placed(never_a_number(name), name.split("/")[0], "", column))
    return placed


def _of_loss(check: Callable[[Curve], Statement | None]) -> Callable[[Run], list[Placed]]:
    def look(run: Run) -> list[Placed]:
        found = (check(curve_of(run, series)) for series in run.quantity("train", "loss"))
        return [Placed(statement, "train", "loss") for statement in found if statement]

    return look


RULES = (
    Rule(
        "broken-off training",
        "run.json says that the fit failed or was interrupted.",
        "The sentence of the error is the first thing to read; the curves show what came before it.",
        _end,
    ),
    Rule(
        "no finite number",
        "The latest value of a logged key is NaN or infinite, or it was never anything else.",
        "Look at the curves just before: a norm or a loss that shoots up says where it began. A smaller learning "
        "rate, gradient clipping or float32 help most often.",
        _numbers,
    ),
    Rule(
        "rising loss",
        "The loss has risen from its lowest window, by more than four standard errors and by a quarter of all that it "
        "ever moved.",
        "A smaller learning rate or a warm-up; where the loss has a schedule of its own it may be meant.",
        _of_loss(rising_loss),
    ),
    Rule(
        "runaway loss",
        "The size of the last loss is above a thousand, and above a thousand times that of the first.",
        "Normalize the outputs, constrain the weights or add weight decay; a smaller learning rate only delays it.",
        _of_loss(runaway_loss),
    ),
    Rule(
        "resting loss",
        f"There are at least {_MIN_LOOKS_TO_STAY} values, and their first and last windows differ by less than four "
        "standard errors.",
        "See that the optimizer has the parameters, and whether the rank says that the representation has collapsed.",
        _of_loss(resting_loss),
    ),
    Rule(
        "falling loss",
        "The last window is below the first by more than four standard errors, and the loss has not risen since.",
        "Nothing to do; how good the representation is, other sections say.",
        _of_loss(falling_loss),
    ),
)
