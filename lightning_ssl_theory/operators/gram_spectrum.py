r"""All eigenvalues of a plug-in operator, from the products of its factor's rows with one another.

The rows bar K_i u_c of all samples and all unit probes, centred over samples, are a factor of N OP. Of the two matrices
of their products, P x P and N n_L x N n_L, the smaller one has the spectrum.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_ssl_theory.distributed import AllGatherRows, AllSum
from lightning_ssl_theory.operators.spectrum import Spectrum, leading_spectrum
from lightning_ssl_theory.tracing.chunked_trace import ChunkedTrace
from lightning_ssl_theory.tracing.network_trace import check_finite_gradients


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
        ValueError: If a per-sample gradient is not finite.
    """
    weight = trace.layers[name].weight
    num_outputs, num_weights = trace.outputs.shape[2], weight.numel()
    count = all_sum(torch.tensor(float(len(trace.outputs)), dtype=torch.float64, device=weight.device))
    if num_weights <= count * num_outputs:
        products = weight.new_zeros(num_weights, num_weights, dtype=torch.float64)
        totals = weight.new_zeros(num_outputs, num_weights, dtype=torch.float64)
        for index, rows in _rows(trace, name):
            products.addmm_(rows.mT, rows)
            totals[index] += rows.sum(0)
        totals, products = all_sum(totals) / count, all_sum(products) / count
        check_finite_gradients(name, products)
        values, vectors = torch.linalg.eigh(products - totals.mT @ totals)
    else:
        found: list[list[Tensor]] = [[] for _ in range(num_outputs)]
        for index, rows in _rows(trace, name):
            found[index].append(rows)
        factor = all_gather_rows(torch.stack([torch.cat(rows) for rows in found], dim=1))  # (N, n_L, P)
        check_finite_gradients(name, factor)
        centred = (factor - factor.mean(0)).flatten(0, 1) / count.sqrt()
        values, left = torch.linalg.eigh(centred @ centred.mT)
        vectors = torch.nn.functional.normalize(centred.mT @ left, dim=0)
    return leading_spectrum(values, vectors, weight, num_eigenvalues, is_whole=True)


def _rows(trace: ChunkedTrace, name: str) -> Iterator[tuple[int, Tensor]]:
    # for each unit probe c and chunk: c and bar K_i u_c, (n, P)
    num_views, num_outputs = trace.outputs.shape[1:]
    for chunk in trace:
        seen = chunk.layers[name]
        for index in range(num_outputs):
            probe = torch.zeros_like(chunk.outputs)
            probe[:, index] = 1
            gradients = seen.sample_gradients(chunk.backward(probe)[name])
            yield index, gradients.unflatten(0, (-1, num_views)).mean(1).double()
