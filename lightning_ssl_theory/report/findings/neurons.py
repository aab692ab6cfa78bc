"""What the numbers say of neurons: how many tell classes apart, how many are dead, how large features grow."""

from __future__ import annotations

from lightning_ssl_theory.report.axis import number_text
from lightning_ssl_theory.report.findings.finding import Rule, Severity, Statement, per_layer
from lightning_ssl_theory.report.findings.trend import (
    Curve,
    fall,
    is_more_than_noise,
    level,
    rise,
    since_start,
)

UNSELECTIVE, SELECTIVE = 0.5, 0.9
DEAD = 0.2
_LARGE_FALL = 0.1
_GROWTH = 10.0


def unselective_neurons(layer: str, share: Curve) -> Statement | None:
    """Neurons that tell no class apart.

    Args:
        layer: The layer's name.
        share: Share of selective neurons.

    Returns:
        A sentence where at most half of them are selective.
    """
    found = level(share)
    if found.high > UNSELECTIVE:
        return None
    severity = Severity.WATCH if found.high > 0.05 else Severity.PROBLEM
    what = f"{_count(1 - found.value)} of {layer}'s neurons tell"
    return Statement(severity, f"{what} classes apart no better than shuffled labels do.", 1 - found.value)


def lost_selectivity(layer: str, share: Curve) -> Statement | None:
    """Neurons that told classes apart and no longer do.

    Args:
        layer: The layer's name.
        share: Share of selective neurons.

    Returns:
        A sentence after a fall by ten percentage points.
    """
    change = fall(share)
    if change is None or change.before - change.after <= _LARGE_FALL:
        return None
    return Statement(
        Severity.WATCH,
        f"Fewer of {layer}'s neurons tell classes apart: {number_text(change.after, '%')}, down from "
        f"{number_text(change.before, '%')} at step {change.since:,.0f}.",
        change.before - change.after,
    )


def selective_neurons(layer: str, share: Curve) -> Statement | None:
    """Neurons that tell classes apart.

    Args:
        layer: The layer's name.
        share: Share of selective neurons.

    Returns:
        A sentence from nine tenths on.
    """
    found = level(share)
    if found.low < SELECTIVE:
        return None
    return Statement(
        Severity.GOOD,
        f"{_count(found.value)} of {layer}'s neurons tell classes apart, though training saw no label.",
        found.value,
    )


def dead_neurons(layer: str, share: Curve) -> Statement | None:
    """Neurons that never fire.

    Args:
        layer: The layer's name.
        share: Share of neurons that are zero on every sample of a look.

    Returns:
        A sentence above a fifth.
    """
    found = level(share)
    if found.low <= DEAD:
        return None
    severity = Severity.PROBLEM if found.low > 0.5 else Severity.WATCH
    return Statement(
        severity, f"{_count(found.value)} of {layer}'s neurons are zero on every sample.", found.value
    )


def growing_features(layer: str, norm: Curve) -> Statement | None:
    """Features that grow or vanish.

    Args:
        layer: The layer's name.
        norm: Mean length of the feature vectors.

    Returns:
        A sentence where it has changed tenfold since the first looks.
    """
    change = since_start(norm)
    if change is None or min(change.before, change.after) <= 0 or not is_more_than_noise(change, norm):
        return None
    ratio = change.after / change.before
    if 1 / _GROWTH < ratio < _GROWTH:
        return None
    what = "have grown" if ratio > 1 else "have shrunk"
    return Statement(
        Severity.NOTE,
        f"Features of {layer} {what}: their mean length went from {number_text(change.before)} to "
        f"{number_text(change.after)}, {change.of_means}.",
        max(ratio, 1 / ratio),
    )


def given_up_noise(layer: str, share: Curve) -> Statement | None:
    """Weights that leave the dense noise for the dictionary, or the other way.

    Args:
        layer: The layer's name.
        share: Sparse share of the squared norm of the weights.

    Returns:
        A sentence after a change by ten percentage points since the first looks.
    """
    if (lost := fall(share)) is not None and lost.before - lost.after > _LARGE_FALL:
        before, after = number_text(lost.before, "%"), number_text(lost.after, "%")
        text = f"{layer} turns to the noise: its sparse share fell from {before} to {after}."
        return Statement(Severity.WATCH, text, lost.before - lost.after)
    change = rise(share)
    if change is None or change.after - change.before <= _LARGE_FALL:
        return None
    before, after = number_text(change.before, "%"), number_text(change.after, "%")
    text = f"{layer} gives up the dense noise: its sparse share rose from {before} to {after}."
    return Statement(Severity.GOOD, text, change.after - change.before)


def _count(share: float) -> str:
    if share >= 0.9995:
        return "All"
    return "Half" if abs(share - 0.5) < 0.005 else f"{share:.0%}".replace("%", " %")


RULES = (
    Rule(
        "dead neurons",
        "More than a fifth of the neurons are zero on every sample, by more than two standard errors.",
        "A smaller learning rate or a larger bias; after a fall of the loss they rarely come back.",
        per_layer("feature_norms", dead_neurons, "dead_share"),
    ),
    Rule(
        "unselective neurons",
        "At most half of the neurons are selective, two standard errors included; at most 5 % is a problem. A neuron "
        "is selective when it answers to some class more than shuffled labels explain, on the samples of a look.",
        "With few samples the test sees little: raise `num_samples`. Else see whether deeper layers do better.",
        per_layer("selectivity", unselective_neurons, "selective_share"),
    ),
    Rule(
        "lost selectivity",
        "The share of selective neurons has fallen by ten percentage points, by more than four standard errors.",
        "Compare with the effective rank: both fall in a collapse.",
        per_layer("selectivity", lost_selectivity, "selective_share"),
    ),
    Rule(
        "growing features",
        "The mean length of a feature has changed tenfold from the first window to the last, by more than noise.",
        "Where nothing normalizes them, weight decay or a normalization layer holds them.",
        per_layer("feature_norms", growing_features, "mean_norm"),
    ),
    Rule(
        "sparse share",
        "The sparse share has changed by ten percentage points, by more than four standard errors.",
        "A rise is what masking views is for; a fall says that the views still share their noise.",
        per_layer("feature_norms", given_up_noise, "sparse_share"),
    ),
    Rule(
        "selective neurons",
        "At least nine tenths of the neurons are selective, by two standard errors.",
        "Nothing to do.",
        per_layer("selectivity", selective_neurons, "selective_share"),
    ),
)
