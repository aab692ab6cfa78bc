"""The spectrum of a covariance operator, or the leading part of it."""

from typing import NamedTuple

from torch import Tensor

from lightning_ssl_theory.moments import effective_rank


class Spectrum(NamedTuple):
    """Leading eigenpairs of one layer's operator, float64, equal on every rank.

    Attributes:
        eigenvalues: The k largest, in falling order, (k,).
        eigenvectors: Their unit eigenvectors, each of the weight's shape and with its largest entry positive, (k, ...).
        effective_rank: exp(entropy of all eigenvalue shares); `None` where only the leading eigenvalues are known.
        weight_cosine: ||V w|| / ||w||, cosine between the weight and the span of these eigenvectors. In a last layer
            without activation every eigenvalue comes n_L times, so that it means something for multiples of n_L only.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    effective_rank: Tensor | None
    weight_cosine: Tensor


def leading_spectrum(
    eigenvalues: Tensor, eigenvectors: Tensor, weight: Tensor, num_eigenvalues: int, *, is_whole: bool
) -> Spectrum:
    """The leading part of a spectrum.

    Args:
        eigenvalues: In rising order, (m,).
        eigenvectors: Their unit eigenvectors, columns of (P, m).
        weight: The layer's weight, of P entries.
        num_eigenvalues: k, at most m.
        is_whole: Whether all eigenvalues that are not zero are among them.

    Returns:
        The k leading eigenpairs.
    """
    values, rows = eigenvalues.flip(0).clamp(min=0), eigenvectors.mT.flip(0)[:num_eigenvalues]
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    rows = rows * largest.sign()
    flat = weight.detach().reshape(-1).to(rows)
    norm = flat.norm()
    return Spectrum(
        values[:num_eigenvalues],
        rows.unflatten(1, weight.shape),
        effective_rank(values) if is_whole else None,
        (rows @ flat).norm() / norm.where(norm > 0, 1),
    )
