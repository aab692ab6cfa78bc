r"""The law of the sparse coding model x = M z + xi: how often an atom takes part, and how much noise there is."""

import math

from lightning_ssl_theory.checks import check_integer, check_number


def theorem_law(num_atoms: int) -> tuple[float, float]:
    r"""Probability and noise of the theorem, with all constants 1.

    .. math:: p = \log \log d / d, \qquad \sigma^2 = \sqrt{\log d} / d

    Args:
        num_atoms: d >= 3.

    Returns:
        p and sigma; sigma^2 >= p for every d.

    Raises:
        InputError: If d < 3, where log log d is not positive.

    Example:
        >>> probability, noise_std = theorem_law(32)
        >>> round(probability, 4), round(noise_std**2, 4)
        (0.0388, 0.0582)
    """
    check_integer(
        num_atoms, "num_atoms", at_least=3, advice="for fewer pass `probability` and `noise_std` of your own"
    )
    log = math.log(num_atoms)
    return math.log(log) / num_atoms, math.sqrt(math.sqrt(log) / num_atoms)


def check_law(probability: float, noise_std: float) -> None:
    """Raise unless the law of the samples exists.

    Args:
        probability: p, to be in (0, 1].
        noise_std: sigma, to be >= 0.

    Raises:
        InputError: If one is out of its range.

    Example:
        >>> check_law(0.0, 1.0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lightning_ssl_theory.checks.InputError: Expected `probability` in (0, 1], got 0.0; it is the share ...
    """
    check_number(
        probability, "probability", "(0, 1]", advice="it is the share of samples that an atom is part of"
    )
    check_number(noise_std, "noise_std", "[0, inf)", advice="pass 0 for samples without noise")
