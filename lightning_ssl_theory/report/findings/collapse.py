"""What the numbers say of collapse: a representation in few directions, a fall of the rank, constant features."""

from __future__ import annotations

from lightning_ssl_theory.report.axis import number_text
from lightning_ssl_theory.report.findings.finding import Rule, Severity, Statement, per_layer
from lightning_ssl_theory.report.findings.trend import Curve, fall, level

COLLAPSED = 1.1
NARROW, WIDE = 0.1, 0.5
_LARGE_FALL = 0.2


def narrow_representation(
    layer: str, rank: Curve, width: Curve | None, num_samples: Curve | None
) -> Statement | None:
    """Few directions in use, and since when.

    Args:
        layer: The layer's name.
        rank: Effective rank.
        width: Number of dimensions, where it was logged.
        num_samples: Samples of a look, where they were logged; a rank is at most one less.

    Returns:
        A sentence below 1.1 directions, below a tenth of those there can be, and after a fall by a fifth.
    """
    if width is not None and width.last < 2:
        return None
    found, ceiling, of = level(rank), *_ceiling(width, num_samples)
    if found.high < COLLAPSED:
        return Statement(
            Severity.BROKEN,
            f"{layer} has collapsed: its effective rank is {found.value:.2f}{of}, so all samples lie on one line"
            f"{_from(rank)}.",
        )
    change = fall(rank)
    is_fall = change is not None and change.before - change.after > _LARGE_FALL * change.before
    is_narrow = ceiling is not None and found.high < NARROW * ceiling
    if not is_fall and not is_narrow:
        return None
    text = f"{layer} uses {number_text(found.value)}{of} directions"
    if change is not None and is_fall:
        text += f" and fell from {number_text(change.before)} since step {change.since:,.0f}"
    size = 1 - found.value / max(ceiling or 0.0, change.before if change else 0.0, found.value)
    return Statement(Severity.PROBLEM if is_fall and is_narrow else Severity.WATCH, f"{text}.", size)


def constant_features(layer: str, smallest: Curve, mean: Curve) -> Statement | None:
    """Features that do not vary over the samples.

    Args:
        layer: The layer's name.
        smallest: Smallest standard deviation over the features.
        mean: Their mean.

    Returns:
        A sentence where the smallest is below a thousandth of a positive mean.
    """
    if not mean.last > 0 or smallest.last >= 1e-3 * mean.last:
        return None
    return Statement(
        Severity.NOTE,
        f"At least one feature of {layer} is constant over the samples: its standard deviation is "
        f"{number_text(smallest.last)}, the mean over all features {number_text(mean.last)}.",
    )


def wide_representation(
    layer: str, rank: Curve, width: Curve | None, num_samples: Curve | None
) -> Statement | None:
    """Many directions in use, and no fall.

    Args:
        layer: The layer's name.
        rank: Effective rank.
        width: Number of dimensions, where it was logged.
        num_samples: Samples of a look, where they were logged.

    Returns:
        A sentence above half of the directions there can be, where the rank did not fall.
    """
    found, ceiling, of = level(rank), *_ceiling(width, num_samples)
    if ceiling is None or ceiling < 2 or found.low <= WIDE * ceiling or fall(rank) is not None:
        return None
    return Statement(
        Severity.GOOD, f"{layer} uses {number_text(found.value)}{of} directions.", found.value / ceiling
    )


def _from(rank: Curve) -> str:
    best = max(range(len(rank.values)), key=lambda i: rank.values[i])
    if rank.values[best] < 2 * COLLAPSED:
        return ""
    return f"; at step {rank.steps[best]:,.0f} it was {number_text(rank.values[best])}"


# The largest rank that a look can show, and how the sentence says it.
def _ceiling(width: Curve | None, num_samples: Curve | None) -> tuple[float | None, str]:
    if width is None:
        return None, ""
    if num_samples is not None and num_samples.last - 1 < width.last:
        ceiling = num_samples.last - 1
        return ceiling, f" of the {ceiling:,.0f} that {num_samples.last:,.0f} samples can show"
    return width.last, f" of {width.last:,.0f}"


_SIZES = ("num_features", "num_samples")
RULES = (
    Rule(
        "narrow representation",
        "The effective rank is below 1.1 (collapsed); or below a tenth of the layer's width, or of the samples of a "
        "look less one; or it has fallen by a fifth from its highest window. Two standard errors are left as a margin.",
        "Stronger negatives or regularization, a smaller weight decay, another augmentation; compare `projector` and "
        "`backbone`: the projector may be narrow while the backbone is not.",
        per_layer("collapse", narrow_representation, "effective_rank", optional=_SIZES),
    ),
    Rule(
        "constant features",
        "The smallest standard deviation of a feature is below a thousandth of the mean one.",
        "After a ReLU see whether the neuron is dead; in a projector it is a dimension that the loss has given up.",
        per_layer("collapse", constant_features, "min_std", "mean_std"),
    ),
    Rule(
        "wide representation",
        "The effective rank is above half of what it can be and has not fallen.",
        "Nothing to do.",
        per_layer("collapse", wide_representation, "effective_rank", optional=_SIZES),
    ),
)
