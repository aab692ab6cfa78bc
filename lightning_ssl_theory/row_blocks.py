"""A large matrix by blocks of rows, so that it is never there as a whole."""

from collections.abc import Iterator

BLOCK_SIZE = 2**22
"""Numbers of a block: 32 MB in float64."""


def row_blocks(num_rows: int, row_size: int) -> Iterator[slice]:
    """Consecutive rows that hold at most `BLOCK_SIZE` numbers together, or a single row.

    Args:
        num_rows: Rows of the matrix.
        row_size: Numbers in a row.

    Yields:
        Slices that cover 0..num_rows - 1 in order, each row once.

    Example:
        >>> list(row_blocks(3, 2**21))
        [slice(0, 2, None), slice(2, 3, None)]
    """
    height = max(1, BLOCK_SIZE // max(row_size, 1))
    for start in range(0, num_rows, height):
        yield slice(start, min(start + height, num_rows))
