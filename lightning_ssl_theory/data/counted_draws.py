r"""Uniform random numbers as functions of a seed and a counter, for a whole batch of seeds at once.

.. math:: u_{ik} = 2^{-24} \lfloor 2^{-40}\, h(h(s_i) + k \gamma) \rfloor, \qquad k = 0, 1, …

h mixes 64 bits (the finaliser of SplitMix64) and gamma is its odd increment. No state is carried on: the numbers of
a seed depend on neither the device nor the batch that it comes in.

References: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014, Figures 16 and 17.
"""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_dtype, check_integer, check_shape

_INCREMENT = 0x9E3779B97F4A7C15 - 2**64
_FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def counted_uniforms(seeds: Tensor, first: int, count: int) -> Tensor:
    """Numbers `first` to `first + count - 1` of every seed's sequence.

    Args:
        seeds: (N,) int64; any values, also small ones next to each other.
        first: k of the first number, >= 0.
        count: K >= 1.

    Returns:
        (N, K) float32, uniform on the multiples of 2^-24 in [0, 1), on the device of the seeds. O(N K) time.

    Raises:
        InputError: The seeds are no such vector, or a number is out of its range.

    Example:
        >>> seeds = torch.tensor([3, 4])
        >>> bool((counted_uniforms(seeds, 0, 5)[:, 2:] == counted_uniforms(seeds, 2, 3)).all())
        True
    """
    _check_seeds(seeds)
    check_integer(first, "first", at_least=0)
    check_integer(count, "count")
    counters = torch.arange(first, first + count, device=seeds.device)
    bits = _mixed(_mixed(seeds)[:, None] + counters * _INCREMENT)
    return _shifted(bits, 40).float() * 2**-24


def split_seeds(seeds: Tensor, branch: int) -> Tensor:
    """Another seed for each seed: independent sequences for the views of one sample.

    Args:
        seeds: (N,) int64.
        branch: number of the view, >= 0.

    Returns:
        (N,) int64.

    Raises:
        InputError: The seeds are no such vector, or the number is negative.

    Example:
        >>> seeds = torch.tensor([3, 4])
        >>> len({*split_seeds(seeds, 0).tolist(), *split_seeds(seeds, 1).tolist()})
        4
    """
    _check_seeds(seeds)
    check_integer(branch, "branch", at_least=0)
    return _mixed(_mixed(seeds) ^ _mixed(torch.full_like(seeds, branch)))


# 64-bit arithmetic wraps around in torch, on every device.
def _mixed(bits: Tensor) -> Tensor:
    bits = bits + _INCREMENT
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


# To the right, zeros from the left: torch repeats the sign.
def _shifted(bits: Tensor, shift: int) -> Tensor:
    return (bits >> shift) & (2 ** (64 - shift) - 1)


def _check_seeds(seeds: Tensor) -> None:
    check_shape(seeds, "seeds", "N")
    check_dtype(seeds, "seeds", torch.int64)
