r"""Log-sum-exp of the rows of a matrix of inner products that is never held as a whole.

The forward pass keeps one number a row, the backward pass makes the blocks of the matrix once more. A symmetric matrix
is made in its upper triangle only, each block of which serves its rows and its columns: forward and backward together
then need as many operations as two products of the whole matrix with N x D matrices, instead of three.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor, is_legacy_batchedtensor
from torch.autograd import Function
from torch.autograd.forward_ad import unpack_dual

# A row's softmax does without what is below e^-60 of its sum. Left as they are such numbers would become denormal,
# with which processors take some ten times as long.
_LEAST_EXPONENT = -60.0
_SMALL = 2**14  # entries up to which the whole matrix is made faster than its blocks


def blockwise_logsumexp(
    anchors: Tensor,
    keys: Tensor,
    *,
    excluded: Sequence[int],
    bound: float = math.inf,
    is_symmetric: bool = False,
) -> Tensor:
    r"""Log-sum-exp over keys of their inner products with each anchor, :math:`\log \sum_j e^{a_i \cdot k_j}`.

    Derivatives of derivatives, forward-mode derivatives, vmap and torch.compile make the whole matrix.

    Args:
        anchors: Rows a, shape (N, D), float32 or float64.
        keys: Rows k, shape (M, D).
        excluded: Differences j - i of key and anchor whose product is left out; a key at least remains for each anchor.
        bound: What no product exceeds in size. Where its exponential is far from the ends of the number format, no
            maxima are looked for.
        is_symmetric: That k = a M with a fixed symmetric matrix M, so that the matrix of products is symmetric. The
            gradient then goes to the anchors, for both.

    Returns:
        Shape (N,). O(N M D) time and O((N + M) D) memory.

    References:
        T. Dao, D. Fu, S. Ermon, A. Rudra, C. Re, "FlashAttention: Fast and Memory-Efficient Exact Attention with
        IO-Awareness", 2022, sec. 3, on online maxima and recomputation.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [2.0]])  # products (0, 0, 0; 0, 1, 2; 0, 2, 4)
        >>> blockwise_logsumexp(rows, rows, excluded=(0,))  # log 2, log(1 + e^2), log(1 + e^2)
        tensor([0.6931, 2.1269, 2.1269])
    """
    if torch.compiler.is_compiling() or len(anchors) * len(keys) <= _SMALL:
        return _scores(anchors, keys, excluded).logsumexp(-1)
    is_bounded = bound <= (40.0 if anchors.dtype == torch.float32 else 300.0)
    return _BlockwiseLogSumExp.apply(anchors, keys, tuple(excluded), is_bounded, is_symmetric)


def _scores(anchors: Tensor, keys: Tensor, excluded: Sequence[int]) -> Tensor:
    # the whole matrix, by operations that have all derivatives
    scores = anchors @ keys.mT
    row, column = (torch.arange(size, device=scores.device) for size in scores.shape[-2:])
    is_excluded = torch.stack([column - row[:, None] == difference for difference in excluded]).any(0)
    return scores.masked_fill(is_excluded, -math.inf)


class _BlockwiseLogSumExp(Function):
    """By blocks; where a derivative is differentiated itself, or mapped, by the whole matrix."""

    @staticmethod
    def forward(
        anchors: Tensor, keys: Tensor, excluded: tuple[int, ...], is_bounded: bool, is_symmetric: bool
    ) -> Tensor:
        sums = anchors.new_zeros(len(anchors))
        largest = torch.full_like(sums, 0.0 if is_bounded else torch.finfo(sums.dtype).min)
        for rows, columns, scores, spare in _tiles(anchors, keys, excluded, is_symmetric):
            is_mirrored = is_symmetric and rows != columns
            if is_bounded:
                sums[rows] += scores.exp_().sum(1)
                if is_mirrored:
                    sums[columns] += scores.sum(0)
                continue
            _absorb(scores, spare, largest[rows], sums[rows])
            if is_mirrored:
                _absorb(scores.mT, spare.mT, largest[columns], sums[columns])
        return sums.log_().add_(largest)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        anchors, keys, ctx.excluded, ctx.is_bounded, ctx.is_symmetric = inputs
        ctx.save_for_backward(anchors, keys, output)
        ctx.save_for_forward(anchors, keys)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        anchors, keys, logsumexp = ctx.saved_tensors
        with torch.autocast(anchors.device.type, enabled=False):
            if torch.is_grad_enabled() or any(map(_is_transformed, (anchors, keys, upstream))):
                return *_gradients(anchors, keys, upstream, ctx.excluded), None, None, None
            weights = upstream * (-logsumexp).exp() if ctx.is_bounded else upstream
            to_anchors = torch.zeros_like(anchors)
            to_keys = torch.zeros_like(keys) if ctx.needs_input_grad[1] and not ctx.is_symmetric else None
            for rows, columns, scores, spare in _tiles(anchors, keys, ctx.excluded, ctx.is_symmetric):
                mirrored = columns if ctx.is_symmetric else None
                if ctx.is_bounded:
                    shares = _bounded_shares(scores, spare, weights, rows, mirrored)
                else:
                    shares = _shares(scores, spare, weights, logsumexp, rows, mirrored)
                to_anchors[rows].addmm_(shares, keys[columns])
                if to_keys is not None:
                    to_keys[columns].addmm_(shares.mT, anchors[rows])
                elif ctx.is_symmetric and rows != columns:
                    to_anchors[columns].addmm_(shares.mT, keys[rows])
            return to_anchors, to_keys, None, None, None

    @staticmethod
    def jvp(ctx: Any, anchors_tangent: Tensor | None, keys_tangent: Tensor | None, *_: None) -> Tensor:
        anchors, keys = ctx.saved_tensors
        shares, tangent = _scores(anchors, keys, ctx.excluded).softmax(-1), torch.zeros_like(anchors[:, 0])
        if anchors_tangent is not None:
            tangent = tangent + ((shares @ keys) * anchors_tangent).sum(-1)
        if keys_tangent is not None:
            tangent = tangent + ((shares @ keys_tangent) * anchors).sum(-1)
        return tangent

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], anchors: Tensor, keys: Tensor, excluded: Any, *_: bool
    ) -> tuple[Tensor, int]:
        anchors, keys = (
            tensor if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip((anchors, keys), in_dims[:2], strict=True)
        )
        return _scores(anchors, keys, excluded).logsumexp(-1), 0


def _gradients(
    anchors: Tensor, keys: Tensor, upstream: Tensor, excluded: Sequence[int]
) -> tuple[Tensor, Tensor]:
    # by the whole matrix, with all derivatives
    shares = _scores(anchors, keys, excluded).softmax(-1) * upstream[..., None]
    return shares @ keys, shares.mT @ anchors


def _is_transformed(tensor: Tensor) -> bool:
    # whether it stands for more than its numbers: for a derivative beside them, or for several of its kind
    is_several = is_batchedtensor(tensor) or is_legacy_batchedtensor(tensor)
    return is_several or unpack_dual(tensor).tangent is not None


def _tiles(
    anchors: Tensor, keys: Tensor, excluded: tuple[int, ...], is_symmetric: bool
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    # Rows, columns, their products without the excluded ones, and a tensor like them; the next tile overwrites both.
    size = _tile_size(anchors, keys)
    buffers = anchors.new_empty(2, size * size)
    for first_row in range(0, len(anchors), size):
        rows = slice(first_row, min(first_row + size, len(anchors)))
        for first_column in range(first_row if is_symmetric else 0, len(keys), size):
            columns = slice(first_column, min(first_column + size, len(keys)))
            shape = rows.stop - rows.start, columns.stop - columns.start
            scores, spare = (buffer[: shape[0] * shape[1]].view(shape) for buffer in buffers)
            torch.mm(anchors[rows], keys[columns].mT, out=scores)
            for difference in excluded:
                offset = first_row + difference - first_column
                if -shape[0] < offset < shape[1]:
                    scores.diagonal(offset).fill_(-math.inf)
            yield rows, columns, scores, spare


def _tile_size(anchors: Tensor, keys: Tensor) -> int:
    longest = max(len(anchors), len(keys))
    if anchors.device.type != "cpu":
        return min(4096, longest)
    return min(256 if longest <= 1024 else 512, longest)  # two tiles of float32 lie in the second cache


def _absorb(scores: Tensor, spare: Tensor, largest: Tensor, sums: Tensor) -> None:
    # Adds a tile to its rows' sums, which are relative to the largest score so far.
    now = torch.maximum(largest, scores.amax(1))
    shares = torch.sub(scores, now[:, None], out=spare).clamp_(min=_LEAST_EXPONENT).exp_()
    sums.mul_((largest - now).exp_()).add_(shares.sum(1))
    largest.copy_(now)


# Derivatives by the scores of a tile; where it is mirrored, plus those by their mirror images.


def _bounded_shares(
    scores: Tensor, spare: Tensor, weights: Tensor, rows: slice, mirrored: slice | None
) -> Tensor:
    weight = weights[rows, None]
    return scores.exp_().mul_(weight if mirrored is None else torch.add(weight, weights[mirrored], out=spare))


def _shares(
    scores: Tensor, spare: Tensor, upstream: Tensor, logsumexp: Tensor, rows: slice, mirrored: slice | None
) -> Tensor:
    torch.sub(scores, logsumexp[rows, None], out=spare)
    spare.clamp_(min=_LEAST_EXPONENT).exp_().mul_(upstream[rows, None])
    if mirrored is None:
        return spare
    scores.sub_(logsumexp[mirrored]).clamp_(min=_LEAST_EXPONENT).exp_()
    return scores.mul_(upstream[mirrored]).add_(spare)
