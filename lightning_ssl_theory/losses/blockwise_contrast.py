r"""Positives against the log-sum-exp of negatives, by a matrix of inner products that is never held as a whole.

The forward pass keeps one number a row, the backward pass makes the blocks of the matrix once more, unless they are so
few that their exponentials were kept. A symmetric matrix is made in its upper triangle only, each block of which serves
its rows and its columns: forward and backward together then need as many operations as two products of the whole matrix
with N x D matrices, instead of three.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.forward_ad import unpack_dual
from torch.nn.functional import softplus

# A row's softmax does without what is below e^-40 of its sum. Exponentials are not let below e^-60: they would become
# denormal, with which processors take some ten times as long.
_LEAST_EXPONENT = -60.0
_LOWEST_SUM, _HIGHEST_SUM = -20.0, 60.0  # logarithms, of rows of which one exponential an entry is enough
_KEPT = 2**22  # entries up to which exponentials are kept for the backward pass


def blockwise_contrast(
    anchors: Tensor,
    keys: Tensor,
    positives: Tensor,
    *,
    temperature: float,
    excluded: Sequence[int],
    bound: float = math.inf,
    is_symmetric: bool = False,
) -> Tensor:
    r"""Log-losses of finding each anchor's positive among its negatives, summed over the anchors.

    .. math::
        \sum_i \log\Big(1 + e^{-p_i / \tau} \sum_j e^{a_i \cdot k_j / \tau}\Big)

    Derivatives of derivatives, forward-mode derivatives, vmap and torch.compile make the whole matrix.

    Args:
        anchors: Rows a, shape (N, D), float32 or float64.
        keys: Rows k, shape (M, D).
        positives: Similarity p of each anchor to its positive, shape (N,).
        temperature: :math:`\tau > 0`.
        excluded: Differences j - i of key and anchor whose product is left out; a key at least remains for each anchor.
        bound: What no inner product exceeds in size. Where the exponentials are then far from the ends of the number
            format, no maxima are looked for.
        is_symmetric: That k = a M with a fixed symmetric matrix M, so that the matrix of products is symmetric. The
            gradient then goes to the anchors, for both.

    Returns:
        Scalar, in nats. O(N M D) time and O((N + M) D) memory.

    References:
        T. Dao, D. Fu, S. Ermon, A. Rudra, C. Re, "FlashAttention: Fast and Memory-Efficient Exact Attention with
        IO-Awareness", 2022, sec. 3, on online maxima and recomputation.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0]])  # products (0, 0; 0, 1), of which those off the diagonal count
        >>> blockwise_contrast(rows, rows, torch.zeros(2), temperature=1.0, excluded=(0,))  # 2 log 2
        tensor(1.3863)
    """
    if torch.compiler.is_compiling():
        return _whole(anchors, keys, positives, temperature, excluded)
    is_bounded = bound / temperature <= (40.0 if anchors.dtype == torch.float32 else 300.0)
    options = temperature, tuple(excluded), is_bounded, is_symmetric
    return _BlockwiseContrast.apply(anchors, keys, positives, *options)[0]


def _scores(anchors: Tensor, keys: Tensor, temperature: float, excluded: Sequence[int]) -> Tensor:
    # the whole matrix, by operations that have all derivatives
    scores = anchors @ keys.mT / temperature
    row, column = (torch.arange(size, device=scores.device) for size in scores.shape[-2:])
    is_excluded = torch.stack([column - row[:, None] == difference for difference in excluded]).any(0)
    return scores.masked_fill(is_excluded, -math.inf)


def _whole(
    anchors: Tensor, keys: Tensor, positives: Tensor, temperature: float, excluded: Sequence[int]
) -> Tensor:
    excess = _scores(anchors, keys, temperature, excluded).logsumexp(-1) - positives / temperature
    return softplus(excess, threshold=40.0).sum(-1)  # above it softplus is the identity, in float64 too


def _whole_gradients(
    anchors: Tensor, keys: Tensor, positives: Tensor, temperature: float, excluded: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    # with all derivatives
    scores = _scores(anchors, keys, temperature, excluded)
    pulls = (scores.logsumexp(-1) - positives / temperature).sigmoid() / temperature
    shares = scores.softmax(-1) * pulls[..., None]
    return shares @ keys, shares.mT @ anchors, -pulls


class _BlockwiseContrast(Function):
    """By blocks; where a derivative is differentiated itself, or mapped, by the whole matrix.

    Beside the value come the log-sum-exp of each row, the shift of all exponents, NaN where one did not do, and the
    exponentials, if they are few. The value being a scalar, its gradient is made before what comes from above enters.
    """

    @staticmethod
    def forward(
        anchors: Tensor,
        keys: Tensor,
        positives: Tensor,
        temperature: float,
        excluded: tuple[int, ...],
        is_bounded: bool,
        is_symmetric: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tiles = _Tiles(anchors, keys, temperature, excluded, is_symmetric)
        kept = tiles.room_for_all()
        shift, sums = anchors.new_zeros(()) if is_bounded else None, anchors.new_zeros(len(anchors))
        for rows, columns, scores in tiles.each(kept):
            shift = scores.amax(1).min() if shift is None else shift
            exponentials = _exponentials(scores, shift, is_bounded)
            sums[rows].add_(exponentials.sum(1))
            if is_symmetric and rows != columns:
                sums[columns].add_(exponentials.sum(0))
        logs = sums.log_()
        shift = logs.new_zeros(()) if shift is None else shift
        if not is_bounded:
            if ((logs > _LOWEST_SUM) & (logs < _HIGHEST_SUM)).all():
                logs.add_(shift)
            else:
                logs, shift, kept = tiles.online_logsumexp(), torch.full_like(shift, math.nan), kept[:0]
        excess = torch.sub(logs, positives, alpha=1 / temperature)
        return softplus(excess, threshold=40.0).sum(), logs, shift, kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        anchors, keys, positives, temperature, excluded, ctx.is_bounded, ctx.is_symmetric = inputs
        ctx.options = temperature, excluded
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(anchors, keys, positives, *output[1:])
        ctx.save_for_forward(anchors, keys, positives)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        inputs = saved[:3]
        with torch.autocast(inputs[0].device.type, enabled=False):
            has_tangent = any(unpack_dual(tensor).tangent is not None for tensor in inputs)
            is_whole = torch.is_grad_enabled() or has_tangent
            gradients = _whole_gradients(*inputs, *ctx.options) if is_whole else _gradients(ctx, *saved)
            return *(None if part is None else upstream * part for part in gradients), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        gradients = _whole_gradients(*ctx.saved_tensors, *ctx.options)
        pairs = zip(gradients, tangents[:3], strict=True)
        return sum((part * tangent).sum() for part, tangent in pairs if tangent is not None), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        tensors = [
            tensor if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(inputs[:3], in_dims[:3], strict=True)
        ]
        values = _whole(*tensors, *inputs[3:5])
        return (values, *values.new_zeros(3, 0).unbind()), (0, None, None, None)


def _gradients(
    ctx: Any, anchors: Tensor, keys: Tensor, positives: Tensor, logsumexp: Tensor, shift: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    # by blocks; of a symmetric matrix those by the keys are among those by the anchors
    temperature, excluded = ctx.options
    scale = 1 / temperature
    pulls = torch.sub(logsumexp, positives, alpha=scale).sigmoid_().mul_(scale)
    to_anchors = torch.zeros_like(anchors)
    to_keys = None if ctx.is_symmetric else torch.zeros_like(keys)
    is_shifted = ctx.is_bounded or not shift.isnan()
    weights = (shift - logsumexp).exp_().mul_(pulls) if is_shifted else pulls
    tiles = _Tiles(anchors, keys, temperature, excluded, ctx.is_symmetric)
    for rows, columns, scores in tiles.each(kept, is_filled=len(kept) > 0):
        mirrored = columns if ctx.is_symmetric else None
        if is_shifted:
            exponentials = scores if len(kept) else _exponentials(scores, shift, ctx.is_bounded)
            shares = _weighed(exponentials, weights, rows, mirrored)
        else:
            shares = _online_shares(scores, weights, logsumexp, rows, mirrored)
        to_anchors[rows].addmm_(shares, keys[columns])
        if to_keys is not None:
            to_keys[columns].addmm_(shares.mT, anchors[rows])
        elif rows != columns:
            to_anchors[columns].addmm_(shares.mT, keys[rows])
    return to_anchors, to_keys, -pulls


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

    def each(self, room: Tensor, *, is_filled: bool = False) -> Iterator[tuple[slice, slice, Tensor]]:
        # Rows, columns and their scores, minus infinity where excluded. Scores are put one after another into the room,
        # if there is some, or are there already; else the next tile overwrites the last one.
        keeps, first_entry = len(room) > 0, 0
        buffer = room if keeps else self._anchors.new_empty(self._size * self._size)
        for first_row in range(0, len(self._anchors), self._size):
            rows = slice(first_row, min(first_row + self._size, len(self._anchors)))
            for first_column in range(first_row if self._is_symmetric else 0, len(self._keys), self._size):
                columns = slice(first_column, min(first_column + self._size, len(self._keys)))
                shape = rows.stop - first_row, columns.stop - first_column
                num_entries = shape[0] * shape[1]
                scores = buffer[first_entry : first_entry + num_entries].view(shape)
                if not is_filled:
                    self._fill(scores, rows, columns)
                yield rows, columns, scores
                first_entry += num_entries if keeps else 0

    def online_logsumexp(self) -> Tensor:
        """Log-sum-exp of each row relative to its own largest score so far: two exponentials an entry."""
        sums = self._anchors.new_zeros(len(self._anchors))
        largest = torch.full_like(sums, torch.finfo(sums.dtype).min)
        for rows, columns, scores in self.each(sums[:0]):
            _absorb(scores, largest[rows], sums[rows])
            if self._is_symmetric and rows != columns:
                _absorb(scores.mT, largest[columns], sums[columns])
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


def _absorb(scores: Tensor, largest: Tensor, sums: Tensor) -> None:
    # Adds a tile to its rows' sums, which are relative to the largest score so far.
    now = torch.maximum(largest, scores.amax(1))
    shares = (scores - now[:, None]).clamp_(min=_LEAST_EXPONENT).exp_()
    sums.mul_((largest - now).exp_()).add_(shares.sum(1))
    largest.copy_(now)


# Derivatives by the scores of a tile; where it is mirrored, plus those by their mirror images.


def _weighed(exponentials: Tensor, weights: Tensor, rows: slice, mirrored: slice | None) -> Tensor:
    if mirrored is None:
        return exponentials * weights[rows, None]
    return (weights[rows, None] + weights[mirrored]).mul_(exponentials)


def _online_shares(
    scores: Tensor, weights: Tensor, logsumexp: Tensor, rows: slice, mirrored: slice | None
) -> Tensor:
    shares = (scores - logsumexp[rows, None]).clamp_(min=_LEAST_EXPONENT).exp_().mul_(weights[rows, None])
    if mirrored is not None:
        scores.sub_(logsumexp[mirrored]).clamp_(min=_LEAST_EXPONENT).exp_()
        shares.add_(scores.mul_(weights[mirrored]))
    return shares
