"""What losses that compare rows of the same samples share: one precision, unit length, the mean over all ranks."""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_shape
from lightning_ssl_theory.distributed import all_sum_with_grad


def matched_rows(**rows: Tensor) -> tuple[Tensor, Tensor]:
    """Two rows for each sample of this rank in one precision, float32 at least.

    Args:
        **rows: Two matrices by what the caller calls them, shape (n_r, E) each.

    Returns:
        Both, in float64 where one of them is, else in float32.

    Raises:
        InputError: If one is no matrix of real numbers or their shapes differ.
    """
    for name, matrix in rows.items():
        check_shape(matrix, name, "N E")
    (first, x), (second, y) = rows.items()
    if x.shape != y.shape:
        raise InputError(
            f"Expected `{first}` and `{second}` of one shape, got {tuple(x.shape)} and {tuple(y.shape)}; "
            "pass those of the same samples."
        )
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.to(dtype), y.to(dtype)


def unit_rows(rows: Tensor) -> Tensor:
    r"""Every row divided by its length.

    Args:
        rows: Shape (\*, D).

    Returns:
        Shape (\*, D). A zero row stays zero and passes its gradient on as it is.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    return rows / row_lengths(rows)


def row_lengths(rows: Tensor) -> Tensor:
    r"""Length of every row, one in place of zero.

    Args:
        rows: Shape (\*, D).

    Returns:
        Shape (\*, 1).
    """
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return length.masked_fill(length == 0, 1.0)


def mean_over_samples(total: Tensor, num_rows: int, name: str) -> Tensor:
    """Mean over the samples of all ranks, differentiable. One exchange of two numbers.

    Args:
        total: Sum over this rank's samples, a scalar.
        num_rows: Number of this rank's samples; 0 will do where another rank has some.
        name: What the caller calls the samples' rows.

    Returns:
        Scalar, equal on every rank.

    Raises:
        InputError: If no rank has a sample.

    Example:
        >>> mean_over_samples(torch.tensor(6.0), 4, "rows").item()
        1.5
    """
    total, count = all_sum_with_grad(torch.stack([total, total.new_tensor(num_rows)])).unbind()
    if num_rows == 0 and not count:  # a rank with samples need not wait for the device
        raise InputError(f"Expected `{name}` of a sample on some rank, got none; pass samples.")
    return total / count
