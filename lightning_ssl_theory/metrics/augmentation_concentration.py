r"""How concentrated augmented samples of a class are: the share of it whose samples all come near one another."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import (
    InputError,
    check_finite,
    check_integer,
    check_number,
    check_shape,
    check_targets,
)
from lightning_ssl_theory.metrics.cliques import CliqueSize, clique_size


class Concentration(NamedTuple):
    r"""Bounds of sigma at T distances delta, for C classes.

    Attributes:
        sigma_lower: A share that is reached in every class, (T,).
        sigma_upper: A share that is exceeded in some class, (T,).
        is_exact: Whether the two are equal, (T,).
        class_lower: The share of each class, (T, C); NaN for a class without samples.
        class_upper: Its upper bound, (T, C).
        standard_error: Of `sigma_lower` as an estimate for other samples, (T,); NaN without sub-samples.
    """

    sigma_lower: Tensor
    sigma_upper: Tensor
    is_exact: Tensor
    class_lower: Tensor
    class_upper: Tensor
    standard_error: Tensor


def augmentation_concentration(
    distances: Tensor,
    labels: Tensor,
    deltas: Tensor,
    *,
    seconds: float = 1.0,
    num_subsamples: int | None = None,
    seed: int = 0,
) -> Concentration:
    r"""The largest sigma of a (sigma, delta)-augmentation, for each delta, over classes.

    Of each class it is the largest part whose samples all lie within delta of one another, a clique of the graph of
    pairs with :math:`d_A \le \delta`, as a share of the class; overall the smallest over classes. Lower bounds are
    cliques found greedily from eight samples, upper bounds colourings of the same graph. Where they differ, and a class
    has at most 100 samples, all maximal cliques are tried. Both bounds grow with delta, as sigma does.

    Of a sample of a class sigma is an estimate, and few views overestimate the distances: no certificate of a
    population. How far it varies from sample to sample, random halves of every class say: the standard deviation of
    `sigma_lower` over halves, drawn without repetition, is the delete-half jackknife's standard error of the whole. It
    counts neither the bias of few views nor that of few samples.

    Cost: O(T sum_k N_k^2) time and, in between, memory of one class's graph; a quarter of that for each sub-sample.

    Args:
        distances: Augmented distances of N samples, shape (N, N); see `augmented_distances`.
        labels: Classes, shape (N,), integers from 0.
        deltas: Distances, shape (T,), not negative.
        seconds: Time for the search through one class's maximal cliques at one delta.
        num_subsamples: Random halves of the classes for the standard error, at least 2; 20 tell it to a sixth.
        seed: Of these halves.

    Returns:
        float64 shares in [0, 1] and flags.

    Raises:
        InputError: If `distances` is not square and symmetric, a label is missing or a delta negative.

    References:
        Huang, Yi, Zhao, Jiang, "Towards the Generalization of Contrastive Self-Supervised Learning", 2021, def. 1.

    Example:
        >>> from lightning_ssl_theory.metrics import augmented_distances
        >>> distances = augmented_distances(torch.tensor([[[0.0]], [[1.0]], [[9.0]]]))
        >>> one_class = torch.zeros(3, dtype=torch.int64)
        >>> augmentation_concentration(distances, one_class, torch.tensor([0.0, 1.0])).sigma_lower
        tensor([0.3333, 0.6667], dtype=torch.float64)
    """
    _check(distances, labels, deltas)
    check_number(seconds, "seconds", "(0, inf)", advice="pass a time")
    check_integer(num_subsamples, "num_subsamples", at_least=2, advice="None leaves it out", or_none=True)
    check_integer(seed, "seed", at_least=0)
    class_lower, class_upper = _of_classes(distances, labels, deltas, seconds)
    lower, upper = (part.nan_to_num(1.0).amin(1) for part in (class_lower, class_upper))
    error = torch.full_like(lower, torch.nan)
    if num_subsamples is not None:
        generator = torch.Generator().manual_seed(seed)
        halves = [_half(labels, generator) for _ in range(num_subsamples)]
        shares = [_of_classes(distances[half][:, half], labels[half], deltas, None)[0] for half in halves]
        error = torch.stack([part.nan_to_num(1.0).amin(1) for part in shares]).std(0)
    return Concentration(lower, upper, lower == upper, class_lower, class_upper, error)


def _of_classes(
    distances: Tensor, labels: Tensor, deltas: Tensor, seconds: float | None
) -> tuple[Tensor, Tensor]:
    # bounds of each class's share, (T, C); without seconds only greedy ones
    order = deltas.argsort()
    lower = torch.full((len(deltas), int(labels.max()) + 1), torch.nan, dtype=torch.float64)
    upper = lower.clone()
    search = {"exact_nodes": 0} if seconds is None else {"seconds": seconds}
    for label in labels.unique().tolist():
        members = labels == label
        own = distances[members][:, members].cpu().clone().fill_diagonal_(torch.inf).numpy()
        sizes = [clique_size(own <= deltas[i].item(), **search) for i in order.tolist()]
        lower[order, label], upper[order, label] = _growing(sizes, len(own))
    return lower, upper


def _half(labels: Tensor, generator: torch.Generator) -> Tensor:
    # of every class, rounded up
    shuffled = torch.randperm(len(labels), generator=generator).to(labels.device)
    members = [shuffled[labels[shuffled] == label] for label in labels.unique()]
    return torch.cat([part[: (len(part) + 1) // 2] for part in members])


def _growing(sizes: list[CliqueSize], count: int) -> tuple[Tensor, Tensor]:
    # a clique stays one as delta grows, and the colouring of a larger graph colours a smaller one
    lower, upper = (torch.tensor(part, dtype=torch.float64) / count for part in zip(*sizes, strict=True))
    return lower.cummax(0).values, upper.flip(0).cummin(0).values.flip(0)


def _check(distances: Tensor, labels: Tensor, deltas: Tensor) -> None:
    check_shape(distances, "distances", "N+ N+")
    check_targets(labels, len(distances), None, "labels")
    check_shape(deltas, "deltas", "T+")
    check_finite(deltas, "deltas")
    if bool((deltas < 0).any()):
        raise InputError(
            f"Expected `deltas` of at least 0, got {float(deltas.min()):g}; distances are not negative."
        )
    if not torch.equal(distances, distances.mT):
        raise InputError("Expected symmetric `distances` without NaN, got others; use `augmented_distances`.")
