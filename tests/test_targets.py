import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.targets import check_targets, check_two_classes, class_sums


def test_class_sums_match_a_loop() -> None:
    features, targets = torch.randn(20, 3, dtype=torch.float64), torch.randint(4, (20,), dtype=torch.int32)
    counts, sums = class_sums(features, targets, 5)
    for k in range(5):
        rows = [row for row, label in zip(features, targets.tolist(), strict=True) if label == k]
        assert counts[k] == len(rows)
        assert_close(sums[k], sum(rows, torch.zeros(3, dtype=torch.float64)))


def test_no_rows() -> None:
    counts, sums = class_sums(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 2)
    assert counts.tolist() == [0.0, 0.0]
    assert sums.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_rejects_what_is_no_index(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"`targets` of an integer dtype, got {dtype}; pass class indices"):
        check_targets(torch.zeros(2, dtype=dtype), 2, 3)


def test_rejects_missing_outside_and_one_class() -> None:
    with pytest.raises(TypeError, match="a tensor of class indices, got list; pass labels"):
        check_targets([0, 1], 2, 3)
    with pytest.raises(ValueError, match=r"`targets` in 0\.\.2, got -1 to 3; drop unlabelled rows or raise"):
        check_targets(torch.tensor([-1, 3]), 2, 3)
    with pytest.raises(ValueError, match="at least two classes, got only class 2; pass more samples"):
        check_two_classes(torch.tensor([0.0, 0.0, 4.0]))
