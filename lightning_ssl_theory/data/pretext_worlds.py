"""Four Gaussian worlds, in which the two criteria of boosted pretext learning hold at once, or do not.

M numbers y are to be told downstream, K > M numbers z are the pretext, and x has D >= K. Up to an invertible map that
mixes all of x, its first M numbers are y + noise, the next K - M are nuisances u, and the rest is noise. Of z, the first
M numbers tell y, and the others:

=============  =====================================  ==============================================================
setting        z beyond y + noise                     what follows
=============  =====================================  ==============================================================
"independent"  noise                                  x and z are independent given y: every processor meets C1
"separable"    u in its last K - M numbers            both criteria are met, by the boosted minimiser too
"entangled"    u in its last and in its first ones    both can be met, but the minimiser need not meet them
"infeasible"   u in the last, x's noise in the first  no processor meets both
=============  =====================================  ==============================================================
"""

from typing import Literal

import torch
from torch import Tensor

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

_SCALES = (0.5, 2.0)  # of x's directions, so that its covariance is not the identity


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
    latents = num_downstream, num_features, num_pretext
    y, x, z = _Loadings(*latents, noise, signal, nuisance).of(setting)
    mixing = torch.linalg.qr(torch.randn(num_features, num_features, dtype=torch.float64, generator=generator)).Q
    scales = torch.logspace(*(torch.tensor(_SCALES).log2().tolist()), num_features, 2, dtype=torch.float64)
    loadings = torch.cat([mixing * scales @ x, z, y])
    return pretext_moments(loadings @ loadings.mT, num_features, num_pretext)


class _Loadings:
    """Weights of y, x and z on independent latents: y (M), x's own D numbers, and z's noise (K)."""

    def __init__(
        self, num_downstream: int, num_features: int, num_pretext: int, noise: float, signal: float, nuisance: float
    ) -> None:
        self._sizes = num_downstream, num_features, num_pretext
        self._noise, self._signal, self._nuisance = noise, signal, nuisance

    def of(self, setting: PretextSetting) -> tuple[Tensor, Tensor, Tensor]:
        """Returns y (M, L), x (D, L) and z (K, L) with L = M + D + K latents."""
        num_downstream, num_features, num_pretext = self._sizes
        latents = torch.eye(sum(self._sizes), dtype=torch.float64)
        y, own, noise = latents.split(self._sizes)
        spread, nuisances = own[:num_downstream], own[num_downstream:num_pretext]
        x = torch.cat([y + self._noise * spread, own[num_downstream:]])
        z = self._noise * noise
        z[:num_downstream] += self._signal * y
        if setting != "independent":
            z[num_downstream:] += self._nuisance * nuisances
        if setting == "entangled":
            count = min(num_downstream, len(nuisances))
            z[:count] += self._nuisance * nuisances[:count]
        if setting == "infeasible":
            z[:num_downstream] += self._nuisance * spread
        return y, x, z
