r"""Mean of a quantity over seeds, with the error that the seeds leave."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from scipy.special import stdtrit

from lightning_ssl_theory.checks import InputError


class SeedMean(NamedTuple):
    """Mean of independent values, and how far it may be from the mean of all seeds.

    Attributes:
        value: The mean; NaN where a value is not finite.
        standard_error: Of the mean; infinite from a single value.
        degrees: Degrees of freedom of the standard error.
        num_seeds: Number of values.
    """

    value: float
    standard_error: float
    degrees: float
    num_seeds: int

    def half_width(self, confidence: float = 0.95) -> float:
        """Half the width of the interval that covers the true mean, by Student's t.

        Args:
            confidence: Share of repetitions in which it does, in (0, 1).

        Returns:
            0 where all values are equal, infinity from a single value.

        Raises:
            InputError: If the confidence is not in (0, 1).
        """
        if not 0 < confidence < 1:
            raise InputError(f"Expected `confidence` in (0, 1), got {confidence}; use 0.95.")
        if self.standard_error in {0.0, math.inf}:
            return self.standard_error
        return float(stdtrit(self.degrees, (1 + confidence) / 2)) * self.standard_error

    def minus(self, other: SeedMean) -> SeedMean:
        """Difference from the mean of other, independent seeds, with Welch's degrees of freedom.

        Args:
            other: What is subtracted; its number of seeds counts where it is smaller.

        Returns:
            The difference.
        """
        error = math.hypot(self.standard_error, other.standard_error)
        degrees = min(self.degrees, other.degrees)
        if 0 < error < math.inf:
            parts = ((one.standard_error / error) ** 4 / one.degrees for one in (self, other) if one.degrees)
            degrees = 1 / sum(parts)
        return SeedMean(self.value - other.value, error, degrees, min(self.num_seeds, other.num_seeds))


def seed_mean(values: Iterable[float]) -> SeedMean:
    r"""Mean and standard error over seeds, :math:`s / \sqrt n` with :math:`n - 1` degrees of freedom.

    Args:
        values: One number for each seed, at least one; also a tensor of shape (seeds,).

    Returns:
        SeedMean.

    Raises:
        InputError: If there is no value.

    Example:
        >>> found = seed_mean([1.0, 2.0, 3.0])
        >>> found.value, round(found.standard_error, 4), round(found.half_width(), 3)
        (2.0, 0.5774, 2.484)
    """
    numbers = [float(value) for value in values]
    count = len(numbers)
    if not count:
        raise InputError("Expected `values` of at least one seed, got none; pass one number for each seed.")
    if not all(map(math.isfinite, numbers)):
        return SeedMean(math.nan, math.inf, count - 1, count)
    mean = math.fsum(numbers) / count
    if count == 1:
        return SeedMean(mean, math.inf, 0, 1)
    # equal numbers have no spread, whatever their mean is rounded to
    spread = math.fsum((number - mean) ** 2 for number in numbers) if len(set(numbers)) > 1 else 0.0
    return SeedMean(
        numbers[0] if not spread else mean, math.sqrt(spread / (count - 1) / count), count - 1, count
    )
