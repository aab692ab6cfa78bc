r"""Which of the three factors of generalization is in the way, in words.

The rule. The error bound of contrastive learning needs

    margin = 1 - rho - sqrt(2 rho) - delta_mu / 2 - divergence > 0,    rho = rho_alignment + rho_concentration,

each rho as small as it gets had the other been perfect. A factor is perfect where its rho is 0, divergence where no two
class centres have a positive product. In the way is the factor whose perfection would raise the margin most; of equal
ones the first of alignment, divergence, concentration. It would do alone where the margin is positive then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from lightning_ssl_theory.report.logged_run import Run

SECTION = "generalization"
_MEANING = {
    "alignment": "views of one sample lie too far apart",
    "divergence": "the centres of two classes lie too close together",
    "concentration": "samples of a class come too little near one another in their views",
}
_NEEDED = ("rho_alignment", "rho_concentration", "delta_mu", "divergence", "bound", "error", "vacuous")
_TIE = 1e-9


def factor_in_the_way(values: Mapping[str, float]) -> str:
    """What keeps the error bound of a layer from saying something, in a sentence.

    Args:
        values: What `GeneralizationMonitor` logs of the layer, by the last part of its key: `rho_alignment`,
            `rho_concentration`, `delta_mu`, `divergence`, `bound`, `error` and `vacuous`.

    Returns:
        Sentences for the report.

    Example:
        >>> factor_in_the_way(dict(rho_alignment=0.0, rho_concentration=0.5, delta_mu=0.1, divergence=-0.2,
        ...                        bound=1.0, error=0.1, vacuous=1.0))
        'The bound says nothing. Most in the way is concentration: samples of a class come too little near one another \
in their views. Perfect concentration alone would let the bound hold.'
    """
    if not values["vacuous"]:
        return (
            f"The bound holds: the nearest-centre classifier errs on at most {values['bound']:.1%} of these samples, "
            f"and does on {values['error']:.1%}. None of the three factors is in the way."
        )
    perfect = {
        "alignment": _margin(values, rho_alignment=0.0),
        "divergence": _margin(values, divergence=min(values["divergence"], 0.0)),
        "concentration": _margin(values, rho_concentration=0.0),
    }
    best = max(perfect.values())
    factor = next(name for name, margin in perfect.items() if margin >= best - _TIE)
    ending = (
        f"Perfect {factor} alone would let the bound hold."
        if perfect[factor] > 0
        else f"Perfect {factor} alone would not do."
    )
    return f"The bound says nothing. Most in the way is {factor}: {_MEANING[factor]}. {ending}"


def sentences_by_layer(run: Run) -> dict[str, tuple[bool, str]]:
    """The sentence of every layer whose bound a run logged, as it was in the last look.

    Args:
        run: One run.

    Returns:
        For each layer whether its bound holds, and the sentence.
    """
    found: dict[str, tuple[bool, str]] = {}
    for series in run.quantity(SECTION, "vacuous"):
        stem = series.column.removesuffix("vacuous")
        columns = {name: run.series.get(f"{stem}{name}") for name in _NEEDED}
        values = {name: column.last for name, column in columns.items() if column is not None}
        if len(values) == len(_NEEDED):
            found[series.key.layer] = (not values["vacuous"], factor_in_the_way(values))
    return found


def _margin(values: Mapping[str, float], **changed: float) -> float:
    known = {**values, **changed}
    rho = known["rho_alignment"] + known["rho_concentration"]
    return 1 - rho - math.sqrt(2 * rho) - known["delta_mu"] / 2 - known["divergence"]
