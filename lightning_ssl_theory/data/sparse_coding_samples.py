r"""Samples of the sparse coding model: few atoms of a dictionary, and dense noise.

.. math:: x = M z + \xi, \qquad z_j \in \{-1, 0, 1\}, \quad P(z_j = \pm 1) = p / 2, \quad
    \xi \sim \mathcal{N}(0, \sigma^2 I)

with M in R^{d1 x d} of orthonormal columns, all :math:`z_j` and :math:`\xi` independent. Although the noise is
longer than the signal, :math:`\sigma^2 d_1 \gg p d`, no single atom is drowned by it, :math:`\sigma < 1`.

References:
    Z. Wen, Y. Li, "Toward Understanding the Feature Learning Process of Self-supervised Contrastive Learning",
    2021, Definitions 2.1 and 3.1.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_finite, check_instance, check_integer, check_shape
from lightning_ssl_theory.sparse_coding import check_dictionary, check_law


class SparseCodingSamples(NamedTuple):
    """N samples of the model."""

    inputs: Tensor
    """x, shape (N, d1)."""
    codes: Tensor
    """z, shape (N, d), of the same dtype."""


def sparse_coding_samples(
    dictionary: Tensor,
    num_samples: int,
    *,
    probability: float,
    noise_std: float,
    generator: torch.Generator | None = None,
) -> SparseCodingSamples:
    """Independent samples, on the device and in the dtype of the dictionary.

    Args:
        dictionary: M, orthonormal columns, shape (d1, d).
        num_samples: N >= 0.
        probability: p = P(z_j != 0), in (0, 1].
        noise_std: Standard deviation sigma >= 0 of each coordinate of the noise.
        generator: Of the draws, on the device of the dictionary; None is torch's.

    Returns:
        SparseCodingSamples, a function of the generator's state. O(N d1 d) time.

    Example:
        >>> inputs, codes = sparse_coding_samples(torch.eye(4)[:, :2], 3, probability=1.0, noise_std=0.0)
        >>> inputs.shape, bool((inputs[:, :2] == codes).all()), codes.abs().unique().tolist()
        (torch.Size([3, 4]), True, [1.0])
    """
    check_dictionary(dictionary)
    check_law(probability, noise_std)
    return draw_samples(
        dictionary, num_samples, probability=probability, noise_std=noise_std, generator=generator
    )


def draw_samples(
    dictionary: Tensor,
    num_samples: int,
    *,
    probability: float,
    noise_std: float,
    generator: torch.Generator | None,
) -> SparseCodingSamples:
    """The same without a check of the dictionary and the law, for those who draw often.

    Args:
        dictionary: M, shape (d1, d).
        num_samples: N.
        probability: p.
        noise_std: sigma.
        generator: Of the draws.

    Returns:
        SparseCodingSamples.
    """
    check_integer(num_samples, "num_samples", at_least=0)
    check_instance(generator, "generator", torch.Generator, or_none=True)
    num_features, num_atoms = dictionary.shape
    uniform = torch.empty(num_samples, num_atoms, dtype=dictionary.dtype, device=dictionary.device)
    uniform.uniform_(generator=generator)
    half = probability / 2
    codes = (uniform < half).to(uniform.dtype) - ((uniform >= half) & (uniform < probability)).to(
        uniform.dtype
    )
    inputs = uniform.new_empty(num_samples, num_features).normal_(0.0, noise_std, generator=generator)
    return SparseCodingSamples(inputs.addmm_(codes, dictionary.mT), codes)


def task_labels(codes: Tensor, task: Tensor) -> Tensor:
    r"""Classes of the downstream task sign<w*, z>.

    Args:
        codes: z, shape (N, d).
        task: w*, shape (d,).

    Returns:
        Shape (N,), int64: 1 where <w*, z> > 0, 0 where < 0, and -1, no label, where it is 0.

    Example:
        >>> task_labels(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]), torch.ones(2)).tolist()
        [1, 0, -1]
    """
    check_shape(codes, "codes", "N d")
    check_shape(task, "task", str(codes.shape[1]))
    check_finite(codes, "codes")
    check_finite(task, "task")
    scores = codes @ task
    return torch.where(scores == 0, -1, (scores > 0).long())


def random_task(num_atoms: int, *, generator: torch.Generator | None = None) -> Tensor:
    r"""Weights w* of a downstream task: random signs, sizes uniform in [1/2, 3/2].

    All sizes are of order 1, as the theorem asks, and no sum of few of them vanishes.

    Args:
        num_atoms: d.
        generator: Of the draws; None is torch's.

    Returns:
        Shape (d,), float32.

    Example:
        >>> task = random_task(5, generator=torch.Generator().manual_seed(0))
        >>> bool(((task.abs() >= 0.5) & (task.abs() <= 1.5)).all())
        True
    """
    check_integer(num_atoms, "num_atoms")
    check_instance(generator, "generator", torch.Generator, or_none=True)
    sizes = 0.5 + torch.rand(num_atoms, generator=generator)
    return sizes * (2.0 * (torch.rand(num_atoms, generator=generator) < 0.5) - 1.0)
