r"""Positives against the log-sum-exp of negatives, by a matrix of inner products that is never held as a whole.

The value keeps one number a row, the gradient makes the blocks of the matrix once more, unless they are so few that
their exponentials were kept. A symmetric matrix is made in its upper triangle only, each block of which serves its rows
and its columns: value and gradient together then need as many operations as two products of the whole matrix with N x D
matrices, instead of three.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

# A row's softmax does without what is below e^-40 of its sum. Exponentials are not let below e^-60: they would become
# denormal, with which processors take some ten times as long.
_LEAST_EXPONENT = -60.0
_LOWEST_SUM, _HIGHEST_SUM = -20.0, 60.0  # logarithms, of rows of which one exponential an entry is enough
_TILE = 256, 1024  # its rows and columns; in float32 it lies in the second cache
_LARGE_TILE = 4096, 4096  # for accelerators
_KEPT = 2**22  # entries up to which exponentials are kept for the gradient


class Contrast(NamedTuple):
    """A sum of log-losses and its gradient.

    Attributes:
        value: Scalar, in nats.
        by_anchors: (N, D); None where no gradient is wanted, as for the others.
        by_keys: (M, D); None for a symmetric matrix, whose anchors have it all.
        by_positives: (N,).
    """

    value: Tensor
    by_anchors: Tensor | None = None
    by_keys: Tensor | None = None
    by_positives: Tensor | None = None


def whole_contrast(
    anchors: Tensor, keys: Tensor, positives: Tensor, *, temperature: float, excluded: Sequence[int]
) -> Tensor:
    """The value of `blockwise_contrast` by the whole matrix, by operations that have all derivatives.

    Args:
        anchors: As there, shape (N, D).
        keys: As there, shape (M, D).
        positives: As there, shape (N,).
        temperature: As there.
        excluded: As there.

    Returns:
        Scalar, in nats.
    """
    scores = anchors @ keys.mT / temperature
    row, column = (torch.arange(size, device=scores.device) for size in scores.shape)
    is_excluded = torch.stack([column - row[:, None] == difference for difference in excluded]).any(0)
    excess = scores.masked_fill(is_excluded, -math.inf).logsumexp(1) - positives / temperature
    return softplus(excess, threshold=40.0).sum()  # above it softplus is the identity, in float64 too


@torch.no_grad()
def blockwise_contrast(
    anchors: Tensor,
    keys: Tensor,
    positives: Tensor,
    *,
    temperature: float,
    excluded: Sequence[int],
    bound: float = math.inf,
    is_symmetric: bool = False,
    has_gradient: bool = True,
) -> Contrast:
    r"""Log-losses of finding each anchor's positive among its negatives, summed over the anchors, and their gradient.

    .. math::
        \sum_i \log\Big(1 + e^{-p_i / \tau} \sum_j e^{a_i \cdot k_j / \tau}\Big)

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
        has_gradient: Whether the gradient is wanted.

    Returns:
        The sum, and its gradient without a graph. O(N M D) time and O((N + M) D) memory.

    References:
        T. Dao, D. Fu, S. Ermon, A. Rudra, C. Re, "FlashAttention: Fast and Memory-Efficient Exact Attention with
        IO-Awareness", 2022, sec. 3, on online maxima and recomputation.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0]])  # products (0, 0; 0, 1), of which those off the diagonal count
        >>> blockwise_contrast(rows, rows, torch.zeros(2), temperature=1.0, excluded=(0,)).value  # 2 log 2
        tensor(1.3863)
    """
    is_bounded = bound / temperature <= (40.0 if anchors.dtype == torch.float32 else 300.0)
    tiles = _Tiles(anchors, keys, temperature, excluded, is_symmetric)
    kept = tiles.room_for_all() if has_gradient else anchors[:0, 0]
    sums = _sums(tiles, kept, is_bounded)
    excess = torch.sub(sums.logs, positives, alpha=1 / temperature)
    value = softplus(excess, threshold=40.0).sum()
    if not has_gradient:
        return Contrast(value)
    pulls = excess.sigmoid_().mul_(1 / temperature)
    by_anchors = torch.zeros_like(anchors)
    by_keys = None if is_symmetric else torch.zeros_like(keys)
    weights = pulls if sums.shift is None else (sums.shift - sums.logs).exp_().mul_(pulls)
    for tile in tiles.each(sums.kept, is_filled=len(sums.kept) > 0):
        if sums.shift is None:
            shares = _online_shares(tile, weights, sums.logs, is_symmetric)
        else:
            if not len(sums.kept):
                _exponentials(tile.scores, sums.shift, is_bounded)
            shares = _weighed(tile, weights, is_symmetric)
        by_anchors[tile.rows].addmm_(shares, keys[tile.columns])
        if by_keys is not None:
            by_keys[tile.columns].addmm_(shares.mT, anchors[tile.rows])
        elif tile.num_mirrored:
            by_anchors[tile.mirrored].addmm_(shares[:, -tile.num_mirrored :].mT, keys[tile.rows])
    return Contrast(value, by_anchors, by_keys, -pulls)


class _Sums(NamedTuple):
    # log-sum-exp of each row, the shift of all exponents, None where one did not do, and the exponentials, if kept
    logs: Tensor
    shift: Tensor | None
    kept: Tensor


def _sums(tiles: "_Tiles", kept: Tensor, is_bounded: bool) -> _Sums:
    sums = tiles.new_row_sums()
    shift = sums.new_zeros(()) if is_bounded else None
    for tile in tiles.each(kept):
        shift = tile.scores.amax(1).min() if shift is None else shift
        exponentials = _exponentials(tile.scores, shift, is_bounded)
        sums[tile.rows].add_(exponentials.sum(1))
        if tile.num_mirrored:
            sums[tile.mirrored].add_(exponentials[:, -tile.num_mirrored :].sum(0))
    logs = sums.log_()
    if is_bounded or shift is None:
        return _Sums(logs, shift, kept)
    if ((logs > _LOWEST_SUM) & (logs < _HIGHEST_SUM)).all():
        return _Sums(logs.add_(shift), shift, kept)
    return _Sums(tiles.online_logsumexp(), None, kept[:0])


class _Tile(NamedTuple):
    """Scores of some rows and columns, the last of which have mirror images that are in no tile."""

    rows: slice
    columns: slice
    num_mirrored: int
    scores: Tensor

    @property
    def mirrored(self) -> slice:
        return slice(self.columns.stop - self.num_mirrored, self.columns.stop)


class _Tiles:
    """Blocks of the matrix of products over the temperature; of a symmetric one those of its upper triangle."""

    def __init__(
        self,
        anchors: Tensor,
        keys: Tensor,
        temperature: float,
        excluded: Sequence[int],
        is_symmetric: bool,
    ) -> None:
        self._anchors, self._keys, self._scale = anchors, keys, 1 / temperature
        self._excluded, self._is_symmetric = excluded, is_symmetric
        self._places = list(self._all_places(*(_TILE if anchors.device.type == "cpu" else _LARGE_TILE)))

    def _all_places(self, height: int, width: int) -> Iterator[tuple[slice, slice, int]]:
        # rows, columns and how many of them are mirrored
        num_rows, num_columns = len(self._anchors), len(self._keys)
        for first_row in range(0, num_rows, height):
            rows = slice(first_row, min(first_row + height, num_rows))
            for first_column in range(first_row if self._is_symmetric else 0, num_columns, width):
                columns = slice(first_column, min(first_column + width, num_columns))
                num_mirrored = columns.stop - max(rows.stop, first_column) if self._is_symmetric else 0
                yield rows, columns, num_mirrored

    def room_for_all(self) -> Tensor:
        """Uninitialised room for all entries, or none if they are many."""
        num_entries = sum(_size(rows) * _size(columns) for rows, columns, _ in self._places)
        return self._anchors.new_empty(num_entries if num_entries <= _KEPT else 0)

    def each(self, room: Tensor, *, is_filled: bool = False) -> Iterator[_Tile]:
        # Minus infinity where excluded. Scores are put one after another into the room, if there is some, or are there
        # already; else the next tile overwrites the last one.
        keeps, first_entry = len(room) > 0, 0
        largest = max((_size(rows) * _size(columns) for rows, columns, _ in self._places), default=0)
        buffer = room if keeps else self._anchors.new_empty(largest)
        for rows, columns, num_mirrored in self._places:
            shape = _size(rows), _size(columns)
            num_entries = shape[0] * shape[1]
            scores = buffer[first_entry : first_entry + num_entries].view(shape)
            if not is_filled:
                self._fill(scores, rows, columns)
            yield _Tile(rows, columns, num_mirrored, scores)
            first_entry += num_entries if keeps else 0

    def new_row_sums(self) -> Tensor:
        """A zero for each anchor."""
        return self._anchors.new_zeros(len(self._anchors))

    def online_logsumexp(self) -> Tensor:
        """Log-sum-exp of each row relative to its own largest score so far: two exponentials an entry."""
        sums = self.new_row_sums()
        largest = torch.full_like(sums, torch.finfo(sums.dtype).min)
        for tile in self.each(sums[:0]):
            _absorb(tile.scores, largest[tile.rows], sums[tile.rows])
            if tile.num_mirrored:
                mirror = tile.scores[:, -tile.num_mirrored :].mT
                _absorb(mirror, largest[tile.mirrored], sums[tile.mirrored])
        return sums.log_().add_(largest)

    def _fill(self, scores: Tensor, rows: slice, columns: slice) -> None:
        scores.addmm_(self._anchors[rows], self._keys[columns].mT, beta=0, alpha=self._scale)
        for difference in self._excluded:
            offset = rows.start + difference - columns.start
            if -len(scores) < offset < scores.shape[1]:
                scores.diagonal(offset).fill_(-math.inf)


def _size(places: slice) -> int:
    return places.stop - places.start


def _exponentials(scores: Tensor, shift: Tensor, is_bounded: bool) -> Tensor:
    # in place
    return scores.exp_() if is_bounded else scores.sub_(shift).clamp_(min=_LEAST_EXPONENT).exp_()


def _absorb(scores: Tensor, largest: Tensor, sums: Tensor) -> None:
    # Adds a tile to its rows' sums, which are relative to the largest score so far.
    now = torch.maximum(largest, scores.amax(1))
    shares = (scores - now[:, None]).clamp_(min=_LEAST_EXPONENT).exp_()
    sums.mul_((largest - now).exp_()).add_(shares.sum(1))
    largest.copy_(now)


# Derivatives by the scores of a tile, plus those by their mirror images where the matrix is symmetric; in place.


def _weighed(tile: _Tile, weights: Tensor, is_symmetric: bool) -> Tensor:
    of_rows = weights[tile.rows, None]
    return tile.scores.mul_(of_rows + weights[tile.columns] if is_symmetric else of_rows)


def _online_shares(tile: _Tile, weights: Tensor, logsumexp: Tensor, is_symmetric: bool) -> Tensor:
    rows, columns, _, scores = tile
    shares = (scores - logsumexp[rows, None]).clamp_(min=_LEAST_EXPONENT).exp_().mul_(weights[rows, None])
    if is_symmetric:
        scores.sub_(logsumexp[columns]).clamp_(min=_LEAST_EXPONENT).exp_()
        shares.add_(scores.mul_(weights[columns]))
    return shares
