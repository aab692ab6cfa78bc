"""Four Gaussian worlds, in which the two criteria of boosted pretext learning hold at once, or do not.

M numbers y are to be told downstream, K > M numbers z are the pretext, and x has D >= K. Up to an invertible map that
mixes all of x, its first M numbers are y + noise, the next K - M are nuisances u, and the rest is noise. The first M
numbers of z tell y, and beyond it z tells:

=============  =====================================  ==============================================================
setting        z beyond y and noise                   what follows
=============  =====================================  ==============================================================
"independent"  nothing                                x and z are independent given y: every processor meets C1
"separable"    u in its last K - M numbers            both criteria are met, by the boosted minimiser too
"entangled"    u in its last and in its first ones    both can be met, but the minimiser need not meet them
"infeasible"   u in the last, x's noise in the first  no processor meets both
=============  =====================================  ==============================================================
"""

from typing import Literal

import torch

from lightning_ssl_theory.checks import (
    InputError,
    check_instance,
    check_integer,
    check_number,
    check_positive,
    check_word,
)
from lightning_ssl_theory.data.pretext_moments import PretextMoments, pretext_moments

PretextSetting = Literal["independent", "separable", "entangled", "infeasible"]
"""One of the names in the table."""

_SCALES = (
    -1.0,
    1.0,
)  # powers of 2 that x's directions are scaled by, so that its covariance is not the identity


def gaussian_pretext_moments(
    setting: PretextSetting = "separable",
    num_features: int = 32,
    num_pretext: int = 8,
    num_downstream: int = 2,
    *,
    noise: float = 1.0,
    signal: float = 1.0,
    nuisance: float = 1.0,
    generator: torch.Generator | None = None,
) -> PretextMoments:
    """The covariance of (x, z, y) in a world of the table.

    Args:
        setting: Which.
        num_features: D >= K.
        num_pretext: K > M.
        num_downstream: M, of variance 1 each.
        noise: Standard deviation of the noise in x's first M numbers and in z, > 0.
        signal: What y is multiplied by in z.
        nuisance: What u, and x's noise, are multiplied by in z, > 0.
        generator: Of the map that mixes x; torch's own by default.

    Returns:
        PretextMoments. O((D + K)^3) time.

    Raises:
        InputError: If a number is out of its range.

    Example:
        >>> from lightning_ssl_theory.data import feasibility_gap, largest_boost_weight
        >>> moments = gaussian_pretext_moments("separable", 6, 3, 1, signal=0.5)
        >>> round(float(feasibility_gap(moments)), 6), round(largest_boost_weight(moments), 6)
        (0.0, 4.0)
    """
    check_word(setting, "setting", PretextSetting)
    for name, size in {"num_pretext": num_pretext, "num_downstream": num_downstream}.items():
        check_integer(size, name)
    check_integer(num_features, "num_features", at_least=num_pretext, advice="x needs at least z's numbers")
    if num_pretext <= num_downstream:
        raise InputError(
            f"Expected `num_pretext` > `num_downstream` = {num_downstream}, got {num_pretext}; "
            "z tells y and something more."
        )
    check_positive(noise, "noise")
    check_positive(nuisance, "nuisance")
    check_number(signal, "signal", "[0, inf)", advice="0 makes z tell nothing of y")
    check_instance(generator, "generator", torch.Generator, or_none=True)
    sizes = (num_downstream, num_features, num_pretext)
    y, x, extra = torch.eye(sum(sizes), dtype=torch.float64).split(sizes)  # loadings on independent latents
    spread, nuisances = x[:num_downstream], x[num_downstream:num_pretext]
    z = noise * extra
    z[:num_downstream] += signal * y
    if setting != "independent":
        z[num_downstream:] += nuisance * nuisances
    if setting in ("entangled", "infeasible"):
        beyond = nuisances if setting == "entangled" else spread
        count = min(num_downstream, len(beyond))
        z[:count] += nuisance * beyond[:count]
    x = torch.cat([y + noise * spread, x[num_downstream:]])
    mixing = torch.linalg.qr(torch.randn(num_features, num_features, generator=generator).double()).Q
    scales = 2 ** torch.linspace(*_SCALES, num_features, dtype=torch.float64)
    loadings = torch.cat([mixing * scales @ x, z, y])
    return pretext_moments(loadings @ loadings.mT, num_features, num_pretext)
