import math

import pytest

from lightning_ssl_theory.data.strength import strength_of


@pytest.mark.parametrize(
    ("value", "expected"), [(True, 0.7), (False, 0.0), (None, 0.0), (0, 0.0), (1, 1.0), (0.2, 0.2)]
)
def test_number_or_switch(value, expected):
    assert strength_of(value, "flip", usual=0.7, maximum=1.0) == expected


def test_rejects_numbers_out_of_range():
    with pytest.raises(ValueError, match=r"Expected `flip` >= 0 and <= 1, got 1.5; pass 0 to switch it off"):
        strength_of(1.5, "flip", usual=0.5, maximum=1.0)
    with pytest.raises(ValueError, match=r"Expected `noise` >= 0, got -0.1; pass 0"):
        strength_of(-0.1, "noise", usual=0.5)
    for value in (math.inf, math.nan):
        with pytest.raises(ValueError, match="Expected `noise` >= 0, got"):
            strength_of(value, "noise", usual=0.5)


def test_rejects_other_types():
    with pytest.raises(
        TypeError, match="Expected `crop` to be a number, True, False or None, got str; pass 0"
    ):
        strength_of("much", "crop", usual=0.5)
