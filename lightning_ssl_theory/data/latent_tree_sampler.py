r"""Samples of a symmetric binary latent tree, level by level, all samples and nodes of a level at once.

The root :math:`z_0` is uniform on {0, 1}. A node agrees with its parent with probability

.. math:: P(z_\nu = z_\mu) = (1 + \rho_{\mu\nu}) / 2, \quad \rho_{\mu\nu} \in [-1, 1],

so the correlation of two nodes is the product of the polarities :math:`\rho` along the path between them. The
polarities are kept by level: entry k of the list belongs to the C^(k+1) nodes k + 1 steps below the root, the
children of a node next to each other.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Section 5.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_ssl_theory.checks import (
    InputError,
    check_dtype,
    check_flag,
    check_instance,
    check_integer,
    check_number,
    check_sequence,
    check_shape,
    check_tree,
)


def random_polarities(
    depth: int,
    num_children: int = 2,
    *,
    polarity: tuple[float, float] = (0.9, 1.0),
    random_signs: bool = True,
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    r"""Polarities of a tree, uniform in a range, with or without random signs.

    Args:
        depth: Number of levels below the root, >= 1.
        num_children: C >= 2 children of every node above the leaves.
        polarity: Smallest and largest value before the sign, both in [-1, 1].
        random_signs: Whether each is multiplied by -1 with probability 1/2.
        generator: Source of randomness; its device is the result's.

    Returns:
        `depth` tensors, (C,), (C^2,), ..., float32.

    Raises:
        InputError: If `polarity` is no pair in [-1, 1], or there is no such tree.

    Example:
        >>> [len(level) for level in random_polarities(3)]
        [2, 4, 8]
    """
    check_tree(depth, num_children)
    if not isinstance(polarity, Sequence) or len(polarity) != 2:
        raise InputError(
            f"Expected `polarity` to be a pair of numbers, got {polarity!r}; pass (smallest, largest)."
        )
    check_flag(random_signs, "random_signs")
    check_instance(generator, "generator", torch.Generator, or_none=True)
    for value in polarity:
        check_number(value, "polarity", "[-1, 1]")
    low, high = polarity
    if not -1 <= low <= high <= 1:
        raise InputError(
            f"Expected `polarity` to be a range inside [-1, 1], got ({low}, {high}); pass (smallest, largest)."
        )
    device = None if generator is None else generator.device
    levels = []
    for level in range(1, depth + 1):
        size, sign = torch.rand(2, num_children**level, generator=generator, device=device)
        values = low + (high - low) * size
        levels.append(values.where(sign < 0.5, -values) if random_signs else values)
    return levels


def sample_latents(
    roots: Tensor, polarities: Sequence[Tensor], *, generator: torch.Generator | None = None
) -> list[Tensor]:
    """All nodes of a tree below given roots, drawn anew for each sample.

    Two calls with the same roots give two views of the same samples.

    Args:
        roots: z_0, (N,), bool; see `sample_roots`.
        polarities: Of each level below the root, on the device of the roots.
        generator: Source of randomness, on the device of the roots.

    Returns:
        Bool tensors (N, 1), (N, C), (N, C^2), ...: the roots, their children, ..., the leaves. O(N) time a node.

    Raises:
        InputError: If a polarity lies outside [-1, 1], or the levels are not those of a tree.

    Example:
        >>> polarities = [torch.tensor([1.0, -1.0])]  # one child always agrees, the other never does
        >>> sample_latents(torch.tensor([False, True]), polarities)[-1].tolist()
        [[False, True], [True, False]]
    """
    check_polarities(polarities)
    check_shape(roots, "roots", "N")
    check_dtype(roots, "roots", torch.bool)
    check_instance(generator, "generator", torch.Generator, or_none=True)
    num_nodes = sum(len(level) for level in polarities)
    uniforms = torch.rand(len(roots), num_nodes, generator=generator, device=roots.device)
    return latents_from_uniforms(roots, uniforms, polarities)


def sample_roots(num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Roots z_0, true or false with equal probability.

    Args:
        num_samples: N.
        generator: Source of randomness; its device is the result's.

    Returns:
        (N,), bool.
    """
    check_integer(num_samples, "num_samples", at_least=0)
    check_instance(generator, "generator", torch.Generator, or_none=True)
    device = None if generator is None else generator.device
    return torch.rand(num_samples, generator=generator, device=device) < 0.5


def latents_from_uniforms(roots: Tensor, uniforms: Tensor, polarities: Sequence[Tensor]) -> list[Tensor]:
    """What `sample_latents` makes of its random numbers.

    Args:
        roots: z_0, (N,), bool.
        uniforms: In [0, 1), (N, K), one for each of the K nodes below the root, level by level.
        polarities: Of each level below the root.

    Returns:
        Bool tensors (N, 1), (N, C), (N, C^2), ...
    """
    levels = [roots.unsqueeze(1)]
    flips = uniforms < (1 - torch.cat(list(polarities))) / 2
    for flip in flips.split([len(level) for level in polarities], dim=1):
        parents = levels[-1]
        children = parents.unsqueeze(2) ^ flip.unflatten(1, (parents.shape[1], -1))
        levels.append(children.flatten(1))
    return levels


def root_correlations(polarities: Sequence[Tensor]) -> list[Tensor]:
    r"""Correlation of every node with the root, :math:`\rho_{0\mu}`, the product of the polarities on the path.

    Args:
        polarities: Of each level below the root.

    Returns:
        Tensors (1,), (C,), (C^2,), ...: of the root, of its children, ..., of the leaves.

    Raises:
        InputError: If a polarity lies outside [-1, 1], or the levels are not those of a tree.

    Example:
        >>> [level.tolist() for level in root_correlations([torch.tensor([0.5, -1.0])])]
        [[1.0], [0.5, -1.0]]
    """
    check_polarities(polarities)
    products = [torch.ones_like(polarities[0][:1])]
    for level in polarities:
        products.append((products[-1].unsqueeze(1) * level.unflatten(0, (len(products[-1]), -1))).flatten())
    return products


def check_polarities(polarities: Sequence[Tensor]) -> None:
    """Raise InputError unless the polarities are in [-1, 1] and their numbers are C, C^2, C^3, ..."""
    check_sequence(polarities, "polarities")
    for level in polarities:
        check_shape(level, "polarities", "C+")
    check_tree(len(polarities), len(polarities[0]))
    num_children = len(polarities[0])
    for distance, level in enumerate(polarities, start=1):
        check_shape(level, f"polarities[{distance - 1}]", str(num_children**distance))
        if not bool((level.abs() <= 1).all()):
            worst = float(level[level.abs().nan_to_num(torch.inf).argmax()])
            raise InputError(
                f"Expected `polarities` in [-1, 1], got {worst}; 1 is a copy of the parent, -1 its opposite."
            )
