"""The leading eigenpairs of a plug-in operator by Lanczos iterations, from products OP v alone."""

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from lightning_ssl_theory.distributed import AllSum
from lightning_ssl_theory.operators.operator_product import OperatorProduct
from lightning_ssl_theory.operators.spectrum import Spectrum, leading_spectrum
from lightning_ssl_theory.tracing.chunked_trace import ChunkedTrace
from lightning_ssl_theory.tracing.network_trace import check_finite_gradients


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
        ValueError: If the iterations do not converge, or a gradient is not finite.
    """
    weight = trace.layers[name].weight
    product, size = OperatorProduct(trace, name, all_sum=all_sum), weight.numel()

    def matvec(vector: np.ndarray) -> np.ndarray:
        column = torch.from_numpy(vector.ravel()).to(trace.outputs).reshape(weight.shape)
        found = product(column)
        check_finite_gradients(name, found)
        return found.reshape(-1).double().cpu().numpy()

    operator = LinearOperator((size, size), matvec=matvec, dtype=np.float64)
    start = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    tolerance = 100 * torch.finfo(trace.outputs.dtype).eps
    try:
        values, vectors = eigsh(operator, k=num_eigenvalues, which="LA", v0=start, tol=tolerance)
    except ArpackNoConvergence as error:
        raise ValueError(
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
