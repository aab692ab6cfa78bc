"""Whether two quantities rise together over settings: Spearman's rank correlation with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.report.verdicts import Verdict

_DRAWS = 2000


def rank_verdict(
    claim: str, first: Sequence[float], second: Sequence[float], *, paper: str = "in words", note: str = ""
) -> Verdict:
    """A claim that two quantities have a positive rank correlation over settings.

    The interval holds the middle 95 % of the correlations of 2000 draws of as many settings with repetition, always the
    same draws; those in which a quantity is constant are left out.

    Args:
        claim: What is claimed, in words.
        first: One quantity, one number for each of at least three settings.
        second: The other, for the same settings.
        paper: The paper's own number.
        note: What else the reader should know.

    Returns:
        The verdict: it holds where the whole interval is above 0, it does not where it is below; its value is the
        correlation, its half-width half of the interval.

    Raises:
        InputError: If there are fewer than three settings, or not as many of the one as of the other.

    Example:
        >>> rank_verdict("they rise together", [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 3.0, 5.0, 8.0, 13.0]).value
        1.0
    """
    pairs = np.array([first, second], dtype=float) if len(first) == len(second) else np.zeros((2, 0))
    count = pairs.shape[1]
    if count < 3:
        raise InputError(
            f"Expected `first` and `second` of the same three settings or more, got {len(first)} and {len(second)}; "
            "pass one number for each setting."
        )
    if not np.isfinite(pairs).all():
        return Verdict(claim, paper, float("nan"), float("inf"), "> 0", None, "not finite", note)
    draws = np.random.default_rng(0).integers(0, count, (_DRAWS, count))
    found = _spearman(pairs[:, draws])
    found = found[np.isfinite(found)]
    value = float(_spearman(pairs))
    if not np.isfinite(value):
        return Verdict(claim, paper, value, float("inf"), "> 0", None, "constant", note)
    low, high = np.quantile(found, [0.025, 0.975]).tolist()
    holds = True if low > 0 else False if high < 0 else None
    interval = f"Spearman over {count} settings, bootstrap interval {low:.2f} to {high:.2f}"
    text = "; ".join(filter(None, (interval, note)))
    return Verdict(claim, paper, value, (high - low) / 2, "> 0", holds, note=text)


def _spearman(pairs: np.ndarray) -> np.ndarray:
    # (2, *, n) to (*,); NaN where a quantity is constant
    ranks = rankdata(pairs, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    scale = np.sqrt((ranks**2).sum(-1).prod(0))
    return (ranks[0] * ranks[1]).sum(-1) / np.where(scale > 0, scale, np.nan)
