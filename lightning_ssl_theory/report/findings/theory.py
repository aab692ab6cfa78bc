"""What the numbers say of theory's bounds: orthonormal weights, the reduced ODE, the error bound and its error."""

from __future__ import annotations

from lightning_ssl_theory.report.axis import number_text
from lightning_ssl_theory.report.factor_in_the_way import sentences_by_layer
from lightning_ssl_theory.report.findings.finding import Placed, Rule, Severity, Statement, per_layer
from lightning_ssl_theory.report.findings.trend import Curve, level, rise
from lightning_ssl_theory.report.logged_run import Run

ROUNDING, BROKEN = 1e-5, 1e-3
FAR = 0.1
_LARGE_RISE = 0.02


def lost_orthogonality(layer: str, drift: Curve) -> Statement | None:
    """Weights that were orthonormal and are no longer.

    Args:
        layer: The layer's name.
        drift: Spectral norm of W^T W - I.

    Returns:
        A sentence where it started at rounding and is above a thousandth.
    """
    if drift.first > ROUNDING or level(drift).low <= BROKEN:
        return None
    return Statement(
        Severity.WATCH,
        f"The weights of {layer} have left orthonormal columns: the drift went from {number_text(drift.first)} to "
        f"{number_text(drift.last)}.",
        drift.last,
    )


def kept_orthogonality(layer: str, drift: Curve) -> Statement | None:
    """Weights that stayed orthonormal.

    Args:
        layer: The layer's name.
        drift: Spectral norm of W^T W - I.

    Returns:
        A sentence where it was never above rounding, in at least two looks.
    """
    if len(drift.values) < 2 or max(drift.values) > ROUNDING:
        return None
    return Statement(
        Severity.GOOD, f"The weights of {layer} stayed orthonormal, up to {number_text(max(drift.values))}."
    )


def distant_flow(layer: str, distance: Curve) -> Statement | None:
    """Outputs that the reduced ODE does not predict.

    Args:
        layer: The layer's name, or "the network".
        distance: Relative distance of the outputs from the ODE's.

    Returns:
        A sentence above a tenth.
    """
    found = level(distance)
    if found.low <= FAR:
        return None
    return Statement(
        Severity.NOTE,
        f"The outputs of {layer} are {number_text(found.value, '%')} of their size away from what the ODE predicts.",
        found.value,
    )


def rising_error(layer: str, error: Curve) -> Statement | None:
    """A classifier by the nearest class centre that has become worse.

    Args:
        layer: The layer's name.
        error: Share of samples that it names wrongly.

    Returns:
        A sentence after a rise by two percentage points.
    """
    change = rise(error)
    if change is None or change.after - change.before <= _LARGE_RISE:
        return None
    return Statement(
        Severity.WATCH,
        f"The nearest class centre at {layer} errs more: {number_text(change.after, '%')}, up from "
        f"{number_text(change.before, '%')} at step {change.since:,.0f}.",
        change.after - change.before,
    )


def _bounds(run: Run) -> list[Placed]:
    placed = []
    for layer, (holds, sentence) in sentences_by_layer(run).items():
        where = f"{layer}: " if layer else ""
        statement = Statement(Severity.GOOD if holds else Severity.NOTE, f"{where}{sentence}")
        placed.append(Placed(statement, "generalization", "bound", layer))
    return placed


RULES = (
    Rule(
        "lost orthogonality",
        "The drift started below 1e-5 and is above 1e-3 at the end, by more than two standard errors.",
        "Give the layer `constraint=`, or check that the optimizer keeps it.",
        per_layer("orthogonality", lost_orthogonality, "drift"),
    ),
    Rule(
        "rising error",
        "The error of the nearest class centre has risen by two percentage points and more than four standard errors.",
        "See which factor moved: alignment, divergence or concentration.",
        per_layer("generalization", rising_error, "error"),
    ),
    Rule(
        "error bound",
        "Whether the bound of the last look says anything, and which of its three factors is most in the way.",
        "More or stronger views raise concentration; the loss's two parts drive alignment and divergence.",
        _bounds,
    ),
    Rule(
        "distant flow",
        "The outputs are further than a tenth of their size from the ODE's, by more than two standard errors.",
        "A smaller learning rate brings them closer; mini-batches, nonlinearities and weight decay are not in the ODE.",
        per_layer("orthogonality", distant_flow, "flow_distance"),
    ),
    Rule(
        "kept orthogonality",
        "The drift of every look is below 1e-5, in at least two looks.",
        "Nothing to do.",
        per_layer("orthogonality", kept_orthogonality, "drift"),
    ),
)
