"""What the numbers say of the covariance operators: an unexplained gradient, views that differ, a layer not driven."""

from __future__ import annotations

from lightning_ssl_theory.report.axis import number_text
from lightning_ssl_theory.report.findings.finding import Rule, Severity, Statement, per_layer
from lightning_ssl_theory.report.findings.trend import Curve, level

UNEXPLAINED, EXPLAINED = 0.5, 0.2
UNDRIVEN = 0.01


def unexplained_gradient(layer: str, residual: Curve) -> Statement | None:
    """A gradient that the operator does not explain.

    Args:
        layer: The layer's name.
        residual: Norm of what the prediction misses of the gradient, over the gradient's.

    Returns:
        A sentence above a half.
    """
    found = level(residual)
    if found.low <= UNEXPLAINED:
        return None
    share = f"to {max(0.0, 1 - found.value):.0%}".replace("%", " %")
    share = "not at all" if found.value >= 0.995 else share
    return Statement(
        Severity.WATCH,
        f"{layer}'s gradient is explained {share}: theory's prediction misses it by {number_text(found.value)} of "
        "its length.",
        found.value,
    )


def differing_views(layer: str, share: Curve) -> Statement | None:
    """Views of one sample that differ more than samples do.

    Args:
        layer: The layer's name.
        share: Signal share, with its own errors.

    Returns:
        A sentence below one half; None where no error was logged.
    """
    found = level(share)
    if not share.half_widths or found.high >= 0.5:
        return None
    return Statement(
        Severity.WATCH,
        f"At {layer} two views of one sample differ more than two samples do: the signal share is "
        f"{number_text(found.value, '%')}.",
        0.5 - found.value,
    )


def undriven_layer(layer: str, trace: Curve) -> Statement | None:
    """A layer that contrast no longer moves.

    Args:
        layer: The layer's name.
        trace: Trace of its operator, with its own errors.

    Returns:
        A sentence where the trace is below a hundredth of its largest value, both with their errors.
    """
    if not trace.half_widths or len(trace.values) < 2:
        return None
    best = max(range(len(trace.values)), key=lambda i: trace.values[i])
    most, found = trace.values[best] - trace.half_widths[best], level(trace)
    if not most > 0 or found.high >= UNDRIVEN * most:
        return None
    size = trace.values[best] / found.value if found.value > 0 else float("inf")
    times = f"{size:,.0f} times " if size < 1e6 else "more than a million times "
    return Statement(
        Severity.NOTE,
        f"Contrast hardly moves {layer} any more: the trace of its operator is {times}smaller than at step "
        f"{trace.steps[best]:,.0f}.",
        min(size, 1e6),
    )


def explained_gradient(layer: str, residual: Curve) -> Statement | None:
    """A gradient that the operator explains.

    Args:
        layer: The layer's name.
        residual: Norm of what the prediction misses of the gradient, over the gradient's.

    Returns:
        A sentence below a fifth.
    """
    found = level(residual)
    if found.high >= EXPLAINED:
        return None
    share = f"{1 - found.value:.0%}".replace("%", " %")
    return Statement(Severity.GOOD, f"{layer}'s gradient is explained to {share}.", found.value)


RULES = (
    Rule(
        "unexplained gradient",
        "The residual at the end is above 0.5 by more than two standard errors; explained is 1 minus the residual.",
        "Give `CovarianceOperators` the loss in use (`loss=`), and look at `cosine`: if it is near 1 only the length "
        "is off. Momentum and weight decay are not part of the prediction.",
        per_layer("covariance", unexplained_gradient, "residual"),
    ),
    Rule(
        "differing views",
        "The signal share and its 95 % error lie below 50 %.",
        "Weaken the augmentation, or look at what it takes away: the layer sees more of it than of the samples.",
        per_layer("covariance", differing_views, "signal_ratio"),
    ),
    Rule(
        "undriven layer",
        "The trace and its 95 % error lie below a hundredth of the largest trace less its own.",
        "It may be done, or the layers above may have stopped passing contrast on: compare the traces of all layers.",
        per_layer("covariance", undriven_layer, "trace"),
    ),
    Rule(
        "explained gradient",
        "The residual at the end is below 0.2 by more than two standard errors.",
        "What the operator's eigenvectors show is what the layer will learn.",
        per_layer("covariance", explained_gradient, "residual"),
    ),
)
