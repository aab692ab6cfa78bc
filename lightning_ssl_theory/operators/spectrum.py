r"""The spectrum of a plug-in operator, or the leading part of it, in two ways.

"Gram": the rows bar K_i u_c of all samples and all unit probes, centred over samples, are a factor of N OP. Of the two
matrices of their products, P x P and N n_L x N n_L, the smaller one has the spectrum. "Lanczos": the leading part from
products OP v alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.distributed import AllGatherRows, AllSum
from lightning_ssl_theory.moments import effective_rank
from lightning_ssl_theory.operators.covered_layers import NotFiniteGradientsError
from lightning_ssl_theory.operators.operator_product import OperatorProduct
from lightning_ssl_theory.tracing.chunked_trace import ChunkedTrace
from lightning_ssl_theory.tracing.network_trace import NetworkTrace


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
        values[:num_eigenvalues].clone(),
        rows.unflatten(1, weight.shape),
        effective_rank(values) if is_whole else None,
        (rows @ flat).norm() / norm.where(norm > 0, 1),
    )


def gram_spectrum(
    trace: ChunkedTrace,
    name: str,
    num_eigenvalues: int,
    *,
    all_sum: AllSum,
    all_gather_rows: AllGatherRows,
) -> Spectrum:
    """The spectrum of one layer's operator.

    Args:
        trace: This rank's views.
        name: The layer's path.
        num_eigenvalues: k, at most min(P, N n_L).
        all_sum: Sum over ranks; crosses where P <= N n_L: P^2 + n_L P numbers.
        all_gather_rows: Rows of all ranks; crosses otherwise: N n_L P numbers.

    Returns:
        Its leading eigenpairs and its effective rank. n_L backward passes; O(min(P, N n_L)^2 max(P, N n_L)) time.

    Raises:
        NotFiniteGradientsError: If a per-sample gradient is not finite, on all ranks.
    """
    weight = trace.layers[name].weight
    num_outputs, num_weights = trace.outputs.shape[2], weight.numel()
    count = all_sum(torch.tensor(float(len(trace.outputs)), dtype=torch.float64, device=weight.device))
    if num_weights <= count * num_outputs:
        products = weight.new_zeros(num_weights, num_weights, dtype=torch.float64)
        totals = weight.new_zeros(num_outputs, num_weights, dtype=torch.float64)

        def take_in(index: int, rows: Tensor) -> None:
            products.addmm_(rows.mT, rows)
            totals[index] += rows.sum(0)

        _each_unit_probe(trace, name, take_in)
        totals, products = all_sum(totals) / count, all_sum(products) / count
        _check_finite(name, products)
        values, vectors = torch.linalg.eigh(products - totals.mT @ totals)
    else:
        found: list[list[Tensor]] = [[] for _ in range(num_outputs)]
        _each_unit_probe(trace, name, lambda index, rows: found[index].append(rows))
        factor = all_gather_rows(torch.stack([torch.cat(rows) for rows in found], dim=1))  # (N, n_L, P)
        _check_finite(name, factor)
        centred = (factor - factor.mean(0)).flatten(0, 1) / count.sqrt()
        values, left = torch.linalg.eigh(centred @ centred.mT)
        vectors = torch.nn.functional.normalize(centred.mT @ left, dim=0)
    return leading_spectrum(values, vectors, weight, num_eigenvalues, is_whole=True)


def lanczos_spectrum(trace: ChunkedTrace, name: str, num_eigenvalues: int, *, all_sum: AllSum) -> Spectrum:
    """The k leading eigenpairs of one layer's operator.

    Args:
        trace: This rank's views.
        name: The layer's path.
        num_eigenvalues: k, below P.
        all_sum: Sum over ranks.

    Returns:
        Them, without an effective rank. Usually 20 to 60 products OP v.

    Raises:
        InputError: If the iterations do not converge.
        NotFiniteGradientsError: If a gradient is not finite, on all ranks.
    """
    weight = trace.layers[name].weight
    product, size = OperatorProduct(trace, name, all_sum=all_sum), weight.numel()

    def matvec(vector: np.ndarray) -> np.ndarray:
        column = torch.from_numpy(vector.ravel()).to(trace.outputs).reshape(weight.shape)
        found = product(column)
        _check_finite(name, found)
        return found.reshape(-1).double().cpu().numpy()

    operator = LinearOperator((size, size), matvec=matvec, dtype=np.float64)
    start = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    tolerance = 100 * torch.finfo(trace.outputs.dtype).eps
    try:
        values, vectors = eigsh(operator, k=num_eigenvalues, which="LA", v0=start, tol=tolerance)
    except ArpackNoConvergence as error:
        raise InputError(
            f"Expected Lanczos iterations to converge for layer {name!r}, they did not; "
            "lower `num_eigenvalues` or pass float64 views."
        ) from error
    return leading_spectrum(
        torch.from_numpy(values).to(weight.device),
        torch.from_numpy(vectors).to(weight.device),
        weight,
        num_eigenvalues,
        is_whole=False,
    )


def _check_finite(name: str, values: Tensor) -> None:
    if not values.isfinite().all():
        raise NotFiniteGradientsError(name)


def _each_unit_probe(trace: ChunkedTrace, name: str, take_in: Callable[[int, Tensor], None]) -> None:
    # for each chunk and unit probe c: c and bar K_i u_c, (n, P)
    num_views, num_outputs = trace.outputs.shape[1:]

    def visit(chunk: NetworkTrace) -> None:
        seen = chunk.layers[name]
        for index in range(num_outputs):
            probe = torch.zeros_like(chunk.outputs)
            probe[:, index] = 1
            gradients = seen.sample_gradients(chunk.backward(probe, [name])[name])
            take_in(index, gradients.unflatten(0, (-1, num_views)).mean(1).double())

    trace.map(visit)
