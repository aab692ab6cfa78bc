"""Blocks of rows: each row once, and no block larger than its bound."""

import pytest

from lightning_ssl_theory import row_blocks as module


@pytest.mark.parametrize(
    ("num_rows", "row_size"), [(0, 5), (0, 0), (1, 1), (7, 3), (7, 10), (7, 11), (20, 1)]
)
def test_each_row_once_in_blocks_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch, num_rows: int, row_size: int
) -> None:
    monkeypatch.setattr(module, "BLOCK_SIZE", 10)
    blocks = list(module.row_blocks(num_rows, row_size))
    assert [row for rows in blocks for row in range(num_rows)[rows]] == list(range(num_rows))
    assert all((rows.stop - rows.start) * row_size <= 10 or rows.stop - rows.start == 1 for rows in blocks)
