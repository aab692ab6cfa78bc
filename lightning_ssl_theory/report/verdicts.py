"""Verdicts on a paper's claims: yes, no or undecided, by the error over seeds.

A claim says that a quantity lies above a bound, below one, or between two, the bounds excluded. It holds if the whole
95 % interval of the quantity's mean lies there, it does not if the whole interval lies elsewhere, and it is undecided
if the interval reaches over a bound, from fewer than five seeds, or where a value is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.report.mean_over_seeds import SeedMean, seed_mean
from lightning_ssl_theory.report.rows import paired_differences

MIN_SEEDS = 5
CONFIDENCE = 0.95


class Verdict(NamedTuple):
    """One claim of a paper, and whether it holds here.

    Attributes:
        claim: What is claimed, in words.
        paper: The paper's own number, or "in words" where it gives none.
        value: What was measured: the mean over seeds; NaN where nothing was, or a value is not finite.
        half_width: Half of the interval around it; 0 for an identity, infinite from one seed.
        threshold: Where the value must lie.
        holds: Whether it does; `None` where the measurement cannot tell.
        reason: Why it cannot tell, where the interval alone does not say it.
        note: What else the reader should know of the value.
    """

    claim: str
    paper: str
    value: float
    half_width: float
    threshold: str
    holds: bool | None
    reason: str = ""
    note: str = ""

    @property
    def here(self) -> str:
        """The value with its half-width, in as many digits as that gives."""
        return _number_text(self.value, self.half_width)

    @property
    def word(self) -> str:
        """The answer: yes, no or undecided, with the reason."""
        word = {True: "yes", False: "no", None: "undecided"}[self.holds]
        return f"{word} ({self.reason})" if self.reason else word


class _Bounds(NamedTuple):
    above: float
    below: float

    def holds(self, low: float, high: float) -> bool | None:
        if low > self.above and high < self.below:
            return True
        return False if high <= self.above or low >= self.below else None

    def margin(self, value: float) -> float:
        return min(value - self.above, self.below - value)

    def __str__(self) -> str:
        if self.below == math.inf:
            return f"> {self.above:.4g}"
        return f"< {self.below:.4g}" if self.above == -math.inf else f"{self.above:.4g} to {self.below:.4g}"


def mean_verdict(
    claim: str,
    values: Iterable[float] | SeedMean,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    paper: str = "in words",
    note: str = "",
) -> Verdict:
    """A claim on the mean of a quantity over seeds.

    Args:
        claim: What is claimed, in words.
        values: The quantity, one number for each seed; or their mean with its error.
        above: What the mean must exceed.
        below: What it must stay under.
        paper: The paper's own number.
        note: What else the reader should know.

    Returns:
        The verdict.

    Raises:
        InputError: If there is no bound, none between them, or no value.

    Example:
        >>> mean_verdict("it grows", [1.2, 1.4, 1.3, 1.5, 1.1], above=1).word
        'yes'
        >>> mean_verdict("it grows", [1.2, 1.4, 1.3], above=1).word
        'undecided (3 seeds)'
    """
    return _verdict(claim, values, _bounds(above, below), CONFIDENCE, paper=paper, note=note)


def joint_verdict(
    claim: str,
    parts: Mapping[str, Iterable[float] | SeedMean],
    *,
    above: float = -math.inf,
    below: float = math.inf,
    paper: str = "in words",
    note: str = "",
) -> Verdict:
    """A claim that is made of several quantities at once: it holds if all do, and does not if one does not.

    Their intervals are wider, of confidence 1 - 0.05 / parts each, so that together they cover 95 %.

    Args:
        claim: What is claimed, in words.
        parts: The quantities by name, as `mean_verdict` takes them.
        above: What each mean must exceed.
        below: What it must stay under.
        paper: The paper's own number.
        note: What else the reader should know.

    Returns:
        The verdict; its value is that of the weakest part, which is named in its note.

    Raises:
        InputError: If there is no part, no bound, none between them, or no value.

    Example:
        >>> joint_verdict("both", {"first": [1.0] * 5, "second": [2.0] * 5}, above=0).note
        'first, weakest of 2'
    """
    if not parts:
        raise InputError(
            "Expected `parts` to hold at least one quantity, got none; pass their values by name."
        )
    bounds = _bounds(above, below)
    confidence = 1 - (1 - CONFIDENCE) / len(parts)
    verdicts = {
        name: _verdict(claim, values, bounds, confidence, paper=paper) for name, values in parts.items()
    }
    weakest = min(verdicts, key=lambda name: _strength(verdicts[name], bounds))
    named = f"{weakest}, weakest of {len(parts)}" if len(parts) > 1 else weakest
    return verdicts[weakest]._replace(note="; ".join(filter(None, (named, note))))


def increase_verdict(
    claim: str, steps: Mapping[str, Sequence[float]], *, paper: str = "in words", note: str = ""
) -> Verdict:
    """A claim that a quantity grows from each setting to the next, seed by seed.

    Args:
        claim: What is claimed, in words.
        steps: The quantity by setting, in order, one value for each seed; the first seeds are those that all have.
        paper: The paper's own number.
        note: What else the reader should know.

    Returns:
        The verdict on all differences of neighbours together, as `joint_verdict` gives it.

    Raises:
        InputError: If there are fewer than two settings, or no value.

    Example:
        >>> increase_verdict("it grows", {"8": [1.0] * 5, "16": [2.0] * 5, "32": [2.0] * 5}).holds
        False
    """
    if len(steps) < 2:
        raise InputError(
            f"Expected `steps` of two settings or more, got {len(steps)}; pass what is compared."
        )
    parts = {
        f"{first} to {second}": paired_differences(steps[first], steps[second])
        for first, second in pairwise(steps)
    }
    return joint_verdict(claim, parts, above=0, paper=paper, note=note)


def identity_verdict(
    claim: str,
    values: Iterable[float],
    *,
    above: float = -math.inf,
    below: float = math.inf,
    paper: str = "exactly",
    note: str = "",
) -> Verdict:
    """A claim that no seed may break, since it is an identity: the worst value decides, and one seed is enough.

    Args:
        claim: What is claimed, in words.
        values: The quantity, at least one number.
        above: What every value must exceed.
        below: What it must stay under.
        paper: The paper's own number.
        note: What else the reader should know.

    Returns:
        The verdict; its value is the worst.

    Raises:
        InputError: If there is no bound, none between them, or no value.

    Example:
        >>> identity_verdict("the residual is zero", [1e-7, 3e-8], below=1e-6).holds
        True
    """
    bounds, numbers = _bounds(above, below), [float(value) for value in values]
    seed_mean(numbers)  # raises where there is none
    text = "; ".join(filter(None, (f"identity, worst of {len(numbers)}", note)))
    if not all(map(math.isfinite, numbers)):
        return Verdict(claim, paper, math.nan, 0.0, str(bounds), None, "not finite", text)
    worst = min(numbers, key=bounds.margin)
    return Verdict(claim, paper, worst, 0.0, str(bounds), bounds.holds(worst, worst), note=text)


def missing_verdict(claim: str, reason: str, *, paper: str = "in words") -> Verdict:
    """A claim of which nothing could be measured.

    Args:
        claim: What is claimed, in words.
        reason: Why not, and what helps.
        paper: The paper's own number.

    Returns:
        The verdict, undecided.
    """
    return Verdict(claim, paper, math.nan, math.inf, "", None, reason)


def _bounds(above: float, below: float) -> _Bounds:
    if not above < below or (above, below) == (-math.inf, math.inf):
        raise InputError(
            f"Expected `above` < `below`, one of them finite, got {above} and {below}; pass what the claim asks for."
        )
    return _Bounds(above, below)


def _verdict(
    claim: str, values: Iterable[float] | SeedMean, bounds: _Bounds, confidence: float, **texts: Any
) -> Verdict:
    mean = values if isinstance(values, SeedMean) else seed_mean(values)
    width = mean.half_width(confidence)
    holds, reason = bounds.holds(mean.value - width, mean.value + width), ""
    if mean.num_seeds < MIN_SEEDS:
        holds, reason = None, f"{mean.num_seeds} seed{'s' * (mean.num_seeds > 1)}"
    if math.isnan(mean.value):
        holds, reason = None, "not finite"
    return Verdict(
        claim, value=mean.value, half_width=width, threshold=str(bounds), holds=holds, reason=reason, **texts
    )


def _strength(verdict: Verdict, bounds: _Bounds) -> tuple[int, float]:
    """What is not finite is weakest but for what does not hold; then the margin counts, in half-widths."""
    margin = bounds.margin(verdict.value)
    ratio = margin / verdict.half_width if verdict.half_width else math.copysign(math.inf, margin)
    rank = {False: 0, None: 1, True: 2}[verdict.holds]
    return rank, -math.inf if math.isnan(ratio) else ratio


def _number_text(value: float, half_width: float) -> str:
    if not math.isfinite(value):
        return "–"
    if not 0 < half_width < math.inf:
        return f"{value:.3g}"
    if not 1e-3 <= max(abs(value), half_width) < 1e5:
        return f"{value:.2e} ± {half_width:.1e}"
    if half_width < 1e-4 * abs(value):
        return f"{value:.5g} ± {half_width:.1e}"
    digits = max(0, 1 - math.floor(math.log10(half_width)))
    return f"{value:.{digits}f} ± {half_width:.{digits}f}"
