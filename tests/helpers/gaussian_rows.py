"""Samples of a Gaussian world: whose own covariance is the world's to rounding, or many of them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_ssl_theory.data import PretextMoments


def matched_rows(moments: PretextMoments, count: int) -> list[Tensor]:
    """x, z and y with exactly these moments."""
    root = torch.linalg.cholesky(moments.covariance)
    rows = torch.randn(count, len(root), dtype=torch.float64)
    rows -= rows.mean(0)
    whitened = torch.linalg.solve_triangular(
        torch.linalg.cholesky(rows.mT @ rows / count), rows.mT, upper=False
    )
    return _split((root @ whitened).mT, moments)


def many_rows(moments: PretextMoments, count: int, *, num_batches: int = 8) -> Iterator[list[Tensor]]:
    """Batches of x, z and y, float32."""
    root = torch.linalg.cholesky(moments.covariance).float()
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_batches):
        yield _split(torch.randn(count // num_batches, len(root), generator=generator) @ root.mT, moments)


def _split(rows: Tensor, moments: PretextMoments) -> list[Tensor]:
    return list(rows.split([len(block) for block in (moments.xx, moments.zz, moments.yy)], 1))
