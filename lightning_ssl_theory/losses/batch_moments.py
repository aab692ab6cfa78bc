r"""Moments of two views over the samples of all ranks: what losses without pairs of samples are made of.

They cross ranks as sums of fixed shape, so that no loss here gathers rows or forms a matrix over samples.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from lightning_ssl_theory.checks import InputError, check_shape
from lightning_ssl_theory.distributed import all_sum_with_grad, is_distributed

SMALL_BATCH_ADVICE = "take larger batches, and leave out a small last one by drop_last=True of the loader"


class BatchMoments(NamedTuple):
    """Mean and variance of every feature of V views over the samples of all ranks.

    Attributes:
        num_samples: Number of samples N of all ranks.
        mean: (V, 1, D).
        centred: This rank's rows minus the mean, (V, n_r, D).
        variance: Mean squared deviation (1/N), (V, 1, D).
        total: Sum over all ranks of the number that came along.
    """

    num_samples: int
    mean: Tensor
    centred: Tensor
    variance: Tensor
    total: Tensor


def two_views(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """Two views of this rank's samples in one precision, float32 at least.

    Args:
        z1: First views, shape (n_r, D).
        z2: Second views of the same samples, shape (n_r, D).

    Returns:
        Both, in float64 where one of them is, else in float32.

    Raises:
        InputError: If one is no matrix of real numbers or their shapes differ.
    """
    check_views(z1, z2)
    dtype = torch.promote_types(torch.promote_types(z1.dtype, z2.dtype), torch.float32)
    return z1.to(dtype), z2.to(dtype)


def check_views(z1: Tensor, z2: Tensor) -> None:
    """Raise InputError unless two tensors can be the views of the same samples, (n_r, D) each."""
    check_shape(z1, "z1", "N D")
    check_shape(z2, "z2", "N D")
    if z1.shape != z2.shape:
        raise InputError(
            f"Expected `z1` and `z2` of one shape, got {tuple(z1.shape)} and {tuple(z2.shape)}; "
            "pass two views of the same samples."
        )


def check_count(count: int, at_least: int, reason: str) -> None:
    """Raise InputError unless there are enough samples over all ranks."""
    if count < at_least:
        raise InputError(
            f"Expected at least {at_least} samples over all ranks in `z1`, got {count}; {reason}: {SMALL_BATCH_ADVICE}."
        )


def batch_moments(rows: Tensor, along: Tensor | None = None) -> BatchMoments:
    """Mean and variance over the samples of all ranks, differentiable. One exchange of 2 V D + 2 numbers.

    Ranks merge what they found about their own means in float64, so that no variance is lost to a large mean.

    Args:
        rows: Views of this rank's samples, shape (V, n_r, D).
        along: A scalar of this rank to be summed in the same exchange.

    Returns:
        The moments, equal on every rank but for `centred`. O(n_r D) time and memory.

    Raises:
        InputError: If there are less than two samples over all ranks.
    """
    along = rows.new_zeros(()) if along is None else along
    num_rows = rows.shape[1]
    if not is_distributed():
        check_two(num_rows)
        mean = rows.mean(1, keepdim=True)
        centred = rows - mean
        return BatchMoments(num_rows, mean, centred, centred.square().mean(1, keepdim=True), along)
    shift = rows.detach().sum(1, keepdim=True) / max(num_rows, 1)
    about = rows - shift  # sums about any point give the moments; about the own mean they lose no digits
    first, second = about.sum(1, keepdim=True).double(), about.square().sum(1, keepdim=True).double()
    point = shift.double()
    second = second + point * (2 * first + num_rows * point)
    counts = torch.stack([along.double(), second.new_tensor(num_rows)])
    sums = torch.cat([(first + num_rows * point).flatten(), second.flatten(), counts])
    total = all_sum_with_grad(sums)
    num_samples = int(total[-1])
    check_two(num_samples)
    mean, square = (total[:-2] / num_samples).unflatten(0, (2, *shift.shape)).unbind()
    variance = (square - mean.square()).clamp(min=0).to(rows.dtype)
    mean = mean.to(rows.dtype)
    return BatchMoments(num_samples, mean, rows - mean, variance, total[-2].to(rows.dtype))


def check_two(num_samples: int) -> None:
    """Raise InputError unless there are samples to have a variance."""
    check_count(num_samples, 2, "there is no variance in one")


def check_variance(mean: Tensor, variance: Tensor, advice: str) -> None:
    r"""Raise InputError where a feature is constant. What rounding leaves of a constant is none.

    Args:
        mean: Of two views over all ranks, shape (2, \*, D).
        variance: Likewise; equal on every rank, so that all of them leave together.
        advice: What else helps than to look for the cause.

    Raises:
        InputError: If one has no variance.
    """
    is_constant = variance <= (16 * torch.finfo(mean.dtype).eps * mean).square()
    if is_constant.any():
        view, *_, feature = is_constant.nonzero()[0].tolist()
        raise InputError(
            f"Expected `z{view + 1}` to vary over the samples in every feature, got {int(is_constant.sum())} constant "
            f"ones, number {feature} first; look for a collapse or a dead unit, or {advice}."
        )


def off_diagonal_energy(
    x: Tensor, y: Tensor | None = None, *, is_symmetrized: bool = False
) -> tuple[Tensor, Tensor]:
    r"""Sum of squares off the diagonal of :math:`M_v = \sum_n x_{vn} y_{vn}^\top` over all ranks, and its diagonal.

    One exchange of V D^2 numbers forward and of V (D + 1) backward. A gradient of products of rows with M alone:
    forward and backward need the time of three products of size n_r x D x D, of two where y is x.

    Args:
        x: Rows of this rank, shape (V, n_r, D).
        y: As `x`; None is x itself.
        is_symmetrized: Whether (M + M^T) / 2 stands for M.

    Returns:
        Energies (V,) and diagonals (V, D), equal on every rank. O(n_r D^2) time and O(D^2) memory a view.

    Example:
        >>> energy, diagonal = off_diagonal_energy(torch.tensor([[[1.0, 2.0], [0.0, 1.0]]]))  # M = (1, 2; 2, 5)
        >>> energy.tolist(), diagonal.tolist()
        ([8.0], [[1.0, 5.0]])
    """
    energy, diagonal, _ = _OffDiagonalEnergy.apply(x, y, is_symmetrized)
    return energy, diagonal


def _off_diagonal(x: Tensor, y: Tensor | None, is_symmetrized: bool) -> tuple[Tensor, Tensor]:
    matrix = all_sum_with_grad(x.mT @ (x if y is None else y))
    if is_symmetrized:
        matrix = (matrix + matrix.mT) / 2
    return matrix, matrix.diagonal(dim1=1, dim2=2).clone()


class _OffDiagonalEnergy(Function):
    """Keeps M without its diagonal; where the backward pass is differentiated itself, it makes M once more."""

    @staticmethod
    def forward(x: Tensor, y: Tensor | None, is_symmetrized: bool) -> tuple[Tensor, Tensor, Tensor]:
        matrix, diagonal = _off_diagonal(x, y, is_symmetrized)
        matrix.diagonal(dim1=1, dim2=2).zero_()
        # by rows first: a long sum of float32 squares would lose digits
        return torch.linalg.vector_norm(matrix, dim=2).square().sum(1), diagonal, matrix

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, y, ctx.is_symmetrized = inputs
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(x, y, output[2])

    @staticmethod
    def backward(ctx: Any, energy: Tensor, diagonal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, y, matrix = ctx.saved_tensors
        if torch.is_grad_enabled():
            whole, own = _off_diagonal(x, y, ctx.is_symmetrized)
            matrix = whole - own.diag_embed()
        upstream = all_sum_with_grad(torch.cat([energy[:, None], diagonal], dim=1))[:, None]
        energy, diagonal = upstream.split([1, diagonal.shape[1]], dim=2)
        gradient = 2 * energy * matrix  # of M, but for its diagonal
        gradient.diagonal(dim1=1, dim2=2).copy_(diagonal[:, 0])
        if y is None:
            return 2 * (x @ gradient), None, None
        return y @ gradient.mT, x @ gradient, None
