"""What a look at collapse costs, against forming all D x D moments or all N (N - 1) / 2 distances, in one run.

`effective rank`: N = 256 samples of D = 4096 features, where min(N, D) = N; also N = 2 D, where the D x D scatter is
the smaller side. `uniformity`: the pairs of N = 8192 samples at once (`torch.pdist`) and in blocks.
Every measurement runs in a process of its own on one thread, for the sake of its peak memory above the inputs.

    python benchmarks/collapse.py
"""

import argparse
import multiprocessing as mp
import resource
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lightning_ssl_theory.metrics import feature_effective_rank, uniformity
from lightning_ssl_theory.moments import effective_rank


class Cost(NamedTuple):
    """Value, seconds and MiB of peak memory above the inputs."""

    value: float
    seconds: float
    mebibytes: float


def rank_of_all_moments(features: Tensor) -> Tensor:
    """The D x D way: eigenvalues of second moment and covariance, and the correlation matrix as a whole."""
    exact = features.double()
    mean, second_moment = exact.mean(0), exact.mT @ exact / len(exact)
    covariance = second_moment - torch.outer(mean, mean)
    torch.linalg.eigvalsh(second_moment)
    scale = covariance.diagonal().rsqrt()
    (covariance * torch.outer(scale, scale)).abs().triu(diagonal=1).mean()
    return effective_rank(torch.linalg.eigvalsh(covariance))


def rank(features: Tensor) -> Tensor:
    """This library's."""
    return feature_effective_rank(features).effective_rank


def uniformity_of_all_pairs(features: Tensor) -> Tensor:
    """All distances at once."""
    return torch.pdist(normalize(features.double())).square().mul(-2).exp().mean().log()


def measured(function: Callable[[Tensor], Tensor], num_samples: int, num_features: int) -> Cost:
    """Cost of one call, the warm-up of the libraries left out."""
    with mp.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (function, num_samples, num_features))


def _measured(function: Callable[[Tensor], Tensor], num_samples: int, num_features: int) -> Cost:
    torch.set_num_threads(1)
    features = torch.randn(num_samples, num_features, generator=torch.Generator().manual_seed(0))
    function(features[:8, :16])
    before, start = _peak(), time.perf_counter()
    value = function(features)
    return Cost(float(value), time.perf_counter() - start, _peak() - before)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def compare(title: str, ours: Callable, other: Callable, num_samples: int, num_features: int) -> None:
    """One line: what the other way costs, in units of ours."""
    mine, theirs = (measured(function, num_samples, num_features) for function in (ours, other))
    print(
        f"{title:15} {num_samples:6} {num_features:6} {mine.seconds:8.2f} {theirs.seconds / mine.seconds:8.1f} "
        f"{mine.mebibytes:8.0f} {theirs.mebibytes / max(mine.mebibytes, 1):8.1f} {mine.value - theirs.value:10.0e}"
    )


def main(*, width: int, num_samples: int, num_points: int) -> None:
    """Print the table."""
    print(f"{'':15} {'N':>6} {'D':>6} {'s':>8} {'x':>8} {'MiB':>8} {'x':>8} {'difference':>10}")
    compare("effective rank", rank, rank_of_all_moments, num_samples, width)
    compare("effective rank", rank, rank_of_all_moments, width // 2, width // 4)
    compare("uniformity", uniformity, uniformity_of_all_pairs, num_points, 128)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--num-samples", type=int, default=256)
    parser.add_argument("--num-points", type=int, default=8192)
    main(**vars(parser.parse_args()))
