"""Random numbers that a seed and a counter determine: against SplitMix64 in whole numbers, and their law."""

import pytest
import torch

from lightning_ssl_theory.data.counted_draws import counted_uniforms, split_seeds

MASK = 2**64 - 1


def mixed(bits):
    bits = (bits + 0x9E3779B97F4A7C15) & MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)


def test_oracle_by_the_published_sequence():
    # the first numbers of SplitMix64 from state 0, as its users print them
    assert mixed(0) == 0xE220A8397B1DCDAF
    assert mixed(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4


def test_numbers_are_those_of_whole_number_arithmetic():
    seeds = [0, 1, -1, 2**63 - 1, -(2**63), 12345678901234567]
    found = counted_uniforms(torch.tensor(seeds), 3, 4)
    for seed, row in zip(seeds, found.tolist(), strict=True):
        key = mixed(seed & MASK)
        expected = [mixed((key + k * 0x9E3779B97F4A7C15) & MASK) >> 40 for k in range(3, 7)]
        assert [value * 2**24 for value in row] == expected
    branches = split_seeds(torch.tensor(seeds), 2).tolist()
    assert [b & MASK for b in branches] == [mixed(mixed(seed & MASK) ^ mixed(2)) for seed in seeds]


@pytest.mark.parametrize("branch", [None, 0, 1])
def test_neighbouring_seeds_give_independent_uniform_numbers(branch):
    seeds = torch.arange(4000)
    u = counted_uniforms(seeds if branch is None else split_seeds(seeds, branch), 0, 16).double()
    assert u.min() >= 0
    assert u.max() < 1
    # means and correlations of columns, of rows next to each other and of views, in their standard errors
    standard = (u - 0.5) * 12**0.5
    count = len(u)
    assert standard.mean(0).abs().max() * count**0.5 < 4
    gram = standard.T @ standard / count - torch.eye(16)
    assert gram.abs().max() * count**0.5 < 4.5
    assert (standard * standard.roll(1, 0)).mean(0).abs().max() * count**0.5 < 4
    shares = torch.histc(u, 64, 0, 1) / u.numel()
    assert ((shares - 1 / 64).abs() * (64 * u.numel()) ** 0.5).max() < 4.5
    other = counted_uniforms(split_seeds(seeds, 2), 0, 16).double() - 0.5
    assert (other * standard).mean(0).abs().max() * (12 * count) ** 0.5 < 4


def test_rejects():
    with pytest.raises(ValueError, match=r"Expected `seeds` of torch.int64, got torch.float32"):
        counted_uniforms(torch.zeros(2), 0, 1)
    with pytest.raises(ValueError, match="Expected `count` of at least 1, got 0"):
        counted_uniforms(torch.zeros(2, dtype=torch.int64), 0, 0)
    with pytest.raises(ValueError, match="Expected `branch` of at least 0, got -1"):
        split_seeds(torch.zeros(2, dtype=torch.int64), -1)
