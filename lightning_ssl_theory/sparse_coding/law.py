r"""The law of the sparse coding model x = M z + xi: how often an atom takes part, and how much noise there is."""

import math


def theorem_law(num_atoms: int) -> tuple[float, float]:
    r"""Probability and noise of the theorem, with all constants 1.

    .. math:: p = \log \log d / d, \qquad \sigma^2 = \sqrt{\log d} / d

    Args:
        num_atoms: d >= 3.

    Returns:
        p and sigma; sigma^2 >= p for every d.

    Raises:
        ValueError: If d < 3, where log log d is not positive.

    Example:
        >>> probability, noise_std = theorem_law(32)
        >>> round(probability, 4), round(noise_std**2, 4)
        (0.0388, 0.0582)
    """
    if num_atoms < 3:
        raise ValueError(
            f"Expected at least 3 atoms for the theorem's p = log log d / d, got {num_atoms}; "
            "pass `probability` and `noise_std`."
        )
    log = math.log(num_atoms)
    return math.log(log) / num_atoms, math.sqrt(math.sqrt(log) / num_atoms)


def check_law(probability: float, noise_std: float) -> None:
    """Raise unless the law of the samples exists.

    Args:
        probability: p, to be in (0, 1].
        noise_std: sigma, to be >= 0.

    Raises:
        ValueError: If one is out of its range.

    Example:
        >>> check_law(0.0, 1.0)
        Traceback (most recent call last):
        ValueError: Expected `probability` in (0, 1], got 0.0; it is the share of samples that an atom is part of.
    """
    if not 0 < probability <= 1:
        raise ValueError(
            f"Expected `probability` in (0, 1], got {probability}; "
            "it is the share of samples that an atom is part of."
        )
    if not 0 <= noise_std < math.inf:
        raise ValueError(
            f"Expected finite `noise_std` >= 0, got {noise_std}; pass 0 for samples without noise."
        )
