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

# A row's softmax does without what is below e^-40 of its sum. Exponentials are not let below e^-60: they would become
# denormal, with which processors take some ten times as long.
_LEAST_EXPONENT = -60.0
_LOWEST_SUM, _HIGHEST_SUM = -20.0, 60.0  # logarithms, of rows of which one exponential an entry is enough
_SMALL = 2**16  # entries up to which the whole matrix is made faster than its blocks
_KEPT = 2**22  # entries up to which exponentials are kept for the backward pass


def blockwise_logsumexp(
    anchors: Tensor,
    keys: Tensor,
    *,
    temperature: float,
    excluded: Sequence[int],
    bound: float = math.inf,
    is_symmetric: bool = False,
) -> Tensor:
    r"""Log-sum-exp over keys of inner products with each anchor, :math:`\log \sum_j e^{a_i \cdot k_j / \tau}`.

    Derivatives of derivatives, forward-mode derivatives, vmap and torch.compile make the whole matrix.

    Args:
        anchors: Rows a, shape (N, D), float32 or float64.
        keys: Rows k, shape (M, D).
        temperature: :math:`\tau > 0`.
        excluded: Differences j - i of key and anchor whose product is left out; a key at least remains for each anchor.
        bound: What no inner product exceeds in size. Where the exponentials are then far from the ends of the number
            format, no maxima are looked for.
        is_symmetric: That k = a M with a fixed symmetric matrix M, so that the matrix of products is symmetric. The
            gradient then goes to the anchors, for both.

    Returns:
        Shape (N,). O(N M D) time and O((N + M) D) memory.

    References:
        T. Dao, D. Fu, S. Ermon, A. Rudra, C. Re, "FlashAttention: Fast and Memory-Efficient Exact Attention with
        IO-Awareness", 2022, sec. 3, on online maxima and recomputation.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [2.0]])  # products (0, 0, 0; 0, 1, 2; 0, 2, 4)
        >>> blockwise_logsumexp(rows, rows, temperature=1.0, excluded=(0,))  # log 2, log(1 + e^2), log(1 + e^2)
        tensor([0.6931, 2.1269, 2.1269])
    """
    if torch.compiler.is_compiling() or len(anchors) * len(keys) <= _SMALL:
        return _scores(anchors, keys, temperature, excluded).logsumexp(-1)
    is_bounded = bound / temperature <= (40.0 if anchors.dtype == torch.float32 else 300.0)
    options = temperature, tuple(excluded), is_bounded, is_symmetric
    return _BlockwiseLogSumExp.apply(anchors, keys, *options)[0]


def _scores(anchors: Tensor, keys: Tensor, temperature: float, excluded: Sequence[int]) -> Tensor:
    # the whole matrix, by operations that have all derivatives
    scores = anchors @ keys.mT / temperature
    row, column = (torch.arange(size, device=scores.device) for size in scores.shape[-2:])
    is_excluded = torch.stack([column - row[:, None] == difference for difference in excluded]).any(0)
    return scores.masked_fill(is_excluded, -math.inf)


class _BlockwiseLogSumExp(Function):
    """By blocks; where a derivative is differentiated itself, or mapped, by the whole matrix.

    Beside the values come the shift of all exponents, NaN where one did not do, and the exponentials, if they are few.
    """

    @staticmethod
    def forward(
        anchors: Tensor,
        keys: Tensor,
        temperature: float,
        excluded: tuple[int, ...],
        is_bounded: bool,
        is_symmetric: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        tiles = _Tiles(anchors, keys, temperature, excluded, is_symmetric)
        kept = tiles.room_for_all()
        shift, sums = anchors.new_zeros(()) if is_bounded else None, anchors.new_zeros(len(anchors))
        for rows, columns, scores, _ in tiles.each(kept):
            shift = scores.amax(1).min() if shift is None else shift
            exponentials = _exponentials(scores, shift, is_bounded)
            sums[rows] += exponentials.sum(1)
            if is_symmetric and rows != columns:
                sums[columns] += exponentials.sum(0)
        logs = sums.log_()
        shift = logs.new_zeros(()) if shift is None else shift
        if is_bounded or ((logs > _LOWEST_SUM) & (logs < _HIGHEST_SUM)).all():
            return logs.add_(shift), shift, kept
        return tiles.online_logsumexp(), torch.full_like(shift, math.nan), kept[:0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        anchors, keys, ctx.temperature, ctx.excluded, ctx.is_bounded, ctx.is_symmetric = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(anchors, keys, *output)
        ctx.save_for_forward(anchors, keys)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        anchors, keys, logsumexp, shift, kept = ctx.saved_tensors
        scale = 1 / ctx.temperature
        with torch.autocast(anchors.device.type, enabled=False):
            if torch.is_grad_enabled() or any(map(_is_transformed, (anchors, keys, upstream))):
                both = _gradients(anchors, keys, upstream, ctx.temperature, ctx.excluded)
                return *both, None, None, None, None
            to_anchors = torch.zeros_like(anchors)
            to_keys = torch.zeros_like(keys) if ctx.needs_input_grad[1] and not ctx.is_symmetric else None
            is_shifted = ctx.is_bounded or not shift.isnan()
            weights = upstream * (shift - logsumexp).exp() if is_shifted else upstream
            tiles = _Tiles(anchors, keys, ctx.temperature, ctx.excluded, ctx.is_symmetric)
            for rows, columns, scores, spare in tiles.each(kept, is_filled=len(kept) > 0):
                mirrored = columns if ctx.is_symmetric else None
                if is_shifted:
                    shares = scores if len(kept) else _exponentials(scores, shift, ctx.is_bounded)
                    _weigh(shares, spare, weights, rows, mirrored)
                else:
                    _online_shares(scores, spare, weights, logsumexp, rows, mirrored)
                to_anchors[rows].addmm_(spare, keys[columns], alpha=scale)
                if to_keys is not None:
                    to_keys[columns].addmm_(spare.mT, anchors[rows], alpha=scale)
                elif ctx.is_symmetric and rows != columns:
                    to_anchors[columns].addmm_(spare.mT, keys[rows], alpha=scale)
            return to_anchors, to_keys, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, anchors_tangent: Tensor | None, keys_tangent: Tensor | None, *_: None) -> Any:
        anchors, keys = ctx.saved_tensors
        shares = _scores(anchors, keys, ctx.temperature, ctx.excluded).softmax(-1) / ctx.temperature
        tangent = torch.zeros_like(anchors[:, 0])
        if anchors_tangent is not None:
            tangent = tangent + ((shares @ keys) * anchors_tangent).sum(-1)
        if keys_tangent is not None:
            tangent = tangent + ((shares @ keys_tangent) * anchors).sum(-1)
        return tangent, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        anchors: Tensor,
        keys: Tensor,
        temperature: float,
        excluded: tuple[int, ...],
        *_: bool,
    ) -> Any:
        anchors, keys = (
            tensor if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip((anchors, keys), in_dims[:2], strict=True)
        )
        logsumexp = _scores(anchors, keys, temperature, excluded).logsumexp(-1)
        return (logsumexp, logsumexp.new_zeros(()), logsumexp.new_zeros(0)), (0, None, None)


def _gradients(
    anchors: Tensor, keys: Tensor, upstream: Tensor, temperature: float, excluded: Sequence[int]
) -> tuple[Tensor, Tensor]:
    # by the whole matrix, with all derivatives
    shares = _scores(anchors, keys, temperature, excluded).softmax(-1) * (upstream / temperature)[..., None]
    return shares @ keys, shares.mT @ anchors


def _is_transformed(tensor: Tensor) -> bool:
    # whether it stands for more than its numbers: for a derivative beside them, or for several of its kind
    is_several = is_batchedtensor(tensor) or is_legacy_batchedtensor(tensor)
    return is_several or unpack_dual(tensor).tangent is not None


class _Tiles:
    """Blocks of the matrix of products over the temperature; of a symmetric one those of its upper triangle."""

    def __init__(
        self,
        anchors: Tensor,
        keys: Tensor,
        temperature: float,
        excluded: tuple[int, ...],
        is_symmetric: bool,
    ) -> None:
        self._anchors, self._keys, self._scale = anchors, keys, 1 / temperature
        self._excluded, self._is_symmetric = excluded, is_symmetric
        self._size = _tile_size(anchors, keys)

    def room_for_all(self) -> Tensor:
        """Uninitialised room for all entries, or none if they are many."""
        starts = range(0, len(self._anchors), self._size)
        heights = [min(self._size, len(self._anchors) - first) for first in starts]
        widths = [len(self._keys) - (first if self._is_symmetric else 0) for first in starts]
        num_entries = sum(height * width for height, width in zip(heights, widths, strict=True))
        return self._anchors.new_empty(num_entries if num_entries <= _KEPT else 0)

    def each(self, room: Tensor, *, is_filled: bool = False) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
        # Rows, columns, their scores, minus infinity where excluded, and a tensor like them. Scores are put one after
        # another into the room, if there is some, or are there already; else the next tile overwrites the last one.
        buffer, spare = self._anchors.new_empty(2, self._size * self._size)
        keeps, first_entry = len(room) > 0, 0
        buffer = room if keeps else buffer
        for first_row in range(0, len(self._anchors), self._size):
            rows = slice(first_row, min(first_row + self._size, len(self._anchors)))
            for first_column in range(first_row if self._is_symmetric else 0, len(self._keys), self._size):
                columns = slice(first_column, min(first_column + self._size, len(self._keys)))
                shape = rows.stop - first_row, columns.stop - first_column
                num_entries = shape[0] * shape[1]
                scores = buffer[first_entry : first_entry + num_entries].view(shape)
                if not is_filled:
                    self._fill(scores, rows, columns)
                yield rows, columns, scores, spare[:num_entries].view(shape)
                first_entry += num_entries if keeps else 0

    def online_logsumexp(self) -> Tensor:
        """Log-sum-exp of each row relative to its own largest score so far: two exponentials an entry."""
        sums = self._anchors.new_zeros(len(self._anchors))
        largest = torch.full_like(sums, torch.finfo(sums.dtype).min)
        for rows, columns, scores, spare in self.each(sums[:0]):
            _absorb(scores, spare, largest[rows], sums[rows])
            if self._is_symmetric and rows != columns:
                _absorb(scores.mT, spare.mT, largest[columns], sums[columns])
        return sums.log_().add_(largest)

    def _fill(self, scores: Tensor, rows: slice, columns: slice) -> None:
        scores.addmm_(self._anchors[rows], self._keys[columns].mT, beta=0, alpha=self._scale)
        for difference in self._excluded:
            offset = rows.start + difference - columns.start
            if -len(scores) < offset < scores.shape[1]:
                scores.diagonal(offset).fill_(-math.inf)


def _tile_size(anchors: Tensor, keys: Tensor) -> int:
    longest = max(len(anchors), len(keys))
    if anchors.device.type != "cpu":
        return min(4096, longest)
    return min(256 if longest <= 2048 else 512, longest)  # two tiles of float32 lie in the second cache


def _exponentials(scores: Tensor, shift: Tensor, is_bounded: bool) -> Tensor:
    # in place
    return scores.exp_() if is_bounded else scores.sub_(shift).clamp_(min=_LEAST_EXPONENT).exp_()


def _absorb(scores: Tensor, spare: Tensor, largest: Tensor, sums: Tensor) -> None:
    # Adds a tile to its rows' sums, which are relative to the largest score so far.
    now = torch.maximum(largest, scores.amax(1))
    shares = torch.sub(scores, now[:, None], out=spare).clamp_(min=_LEAST_EXPONENT).exp_()
    sums.mul_((largest - now).exp_()).add_(shares.sum(1))
    largest.copy_(now)


# Into the spare tile: derivatives by the scores; where the tile is mirrored, plus those by their mirror images.


def _weigh(exponentials: Tensor, spare: Tensor, weights: Tensor, rows: slice, mirrored: slice | None) -> None:
    if mirrored is None:
        torch.mul(exponentials, weights[rows, None], out=spare)
    else:
        torch.add(weights[rows, None], weights[mirrored], out=spare).mul_(exponentials)


def _online_shares(
    scores: Tensor, spare: Tensor, upstream: Tensor, logsumexp: Tensor, rows: slice, mirrored: slice | None
) -> None:
    torch.sub(scores, logsumexp[rows, None], out=spare)
    spare.clamp_(min=_LEAST_EXPONENT).exp_().mul_(upstream[rows, None])
    if mirrored is not None:
        scores.sub_(logsumexp[mirrored]).clamp_(min=_LEAST_EXPONENT).exp_()
        spare.add_(scores.mul_(upstream[mirrored]))
