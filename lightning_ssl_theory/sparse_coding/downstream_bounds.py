r"""What linear readouts of x, of a soft threshold and of the posterior can know of the codes in x = M z + xi.

As M^T x = z + noise holds all that x tells of z, and the coordinates of z are independent and alike, the share of
the variance of y = <w*, z> that a coordinate-wise function s of M^T x explains is the same for every w*,

.. math:: R^2 = \frac{E[z\, s(h)]^2}{p\, E[s(h)^2]}, \qquad h = z + \sigma n, \quad n \sim \mathcal{N}(0, 1).

It is what a linear probe with infinitely many labels reaches on these features.
"""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_number
from lightning_ssl_theory.sparse_coding.law import check_law


def linear_r2(probability: float, noise_std: float) -> float:
    r"""Of raw input: :math:`p / (p + \sigma^2)`.

    Args:
        probability: p in (0, 1].
        noise_std: sigma >= 0.

    Returns:
        R^2 in (0, 1].

    Example:
        >>> linear_r2(0.5, 0.5)
        0.6666666666666666
    """
    check_law(probability, noise_std)
    return probability / (probability + noise_std**2)


def soft_threshold_r2(probability: float, noise_std: float, threshold: float) -> float:
    r"""Of the soft threshold :math:`s(h) = \mathrm{sign}(h) (|h| - \theta)_+`, the symmetrised ReLU of one atom.

    Args:
        probability: p in (0, 1].
        noise_std: sigma > 0.
        threshold: theta >= 0.

    Returns:
        R^2 in [0, 1], in closed form; 0 where nothing passes.

    Example:
        >>> round(soft_threshold_r2(0.5, 0.5, 0.0), 12)  # no threshold: linear
        0.666666666667
    """
    _check_noisy(probability, noise_std)
    check_number(threshold, "threshold", "[0, inf)")
    from_zero = 2 * _mean_square(-threshold, noise_std)
    from_one = _mean_square(1 - threshold, noise_std) + _mean_square(-1 - threshold, noise_std)
    mean = _mean(1 - threshold, noise_std) - _mean(-1 - threshold, noise_std)
    square = (1 - probability) * from_zero + probability * from_one
    return probability * mean**2 / square if square > 0 else 0.0


def best_soft_threshold(probability: float, noise_std: float) -> tuple[float, float]:
    """The soft threshold that explains most.

    Args:
        probability: p in (0, 1].
        noise_std: sigma > 0.

    Returns:
        The threshold, in units of an atom's coefficient, and its R^2.

    Example:
        >>> threshold, r2 = best_soft_threshold(0.0388, 0.2413)
        >>> round(threshold, 2), round(r2, 3)
        (0.45, 0.788)
    """
    _check_noisy(probability, noise_std)
    found = minimize_scalar(
        lambda threshold: -soft_threshold_r2(probability, noise_std, threshold),
        bounds=(0.0, 1.0 + noise_std),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(found.x), -float(found.fun)


def bayes_r2(probability: float, noise_std: float) -> float:
    r"""Of the posterior mean E[z | x]: no function of x explains more.

    Args:
        probability: p in (0, 1].
        noise_std: sigma > 0.

    Returns:
        R^2 in (0, 1], by quadrature to 1e-9.

    Example:
        >>> round(bayes_r2(0.0388, 0.2413), 2)
        0.85
    """
    _check_noisy(probability, noise_std)
    noise = torch.linspace(-12, 12, 481, dtype=torch.float64)
    plus, none, minus = (_density(noise + shift / noise_std) for shift in (0, 1, 2))
    density = (1 - probability) * none + probability / 2 * (plus + minus)
    posterior_mean = probability / 2 * (plus - minus) / density
    # E[m(h)^2] = E[z m(h)], m the posterior mean, which is odd: so h = 1 + sigma n is enough
    return float(torch.trapezoid(plus * posterior_mean, noise))


# E[(m + sigma n)_+] and E[(m + sigma n)_+^2] of a standard normal n.
def _mean(centre: float, noise_std: float) -> float:
    ratio = centre / noise_std
    return centre * _distribution(ratio) + noise_std * _normal(ratio)


def _mean_square(centre: float, noise_std: float) -> float:
    ratio = centre / noise_std
    return (centre**2 + noise_std**2) * _distribution(ratio) + centre * noise_std * _normal(ratio)


def _distribution(value: float) -> float:
    return math.erfc(-value / math.sqrt(2)) / 2


def _normal(value: float) -> float:
    return math.exp(-(value**2) / 2) / math.sqrt(2 * math.pi)


def _density(values: Tensor) -> Tensor:
    return (-values.square() / 2).exp() / math.sqrt(2 * math.pi)


def _check_noisy(probability: float, noise_std: float) -> None:
    check_law(probability, noise_std)
    if noise_std == 0:
        raise InputError("Expected `noise_std` > 0, got 0; without noise the input tells the codes exactly.")
