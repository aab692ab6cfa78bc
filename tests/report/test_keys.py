"""The table of keys: complete, unique, and found again from a column's name."""

import pytest

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.report.keys import QUANTITIES, SECTIONS, keys_as_markdown, parse_key


def test_patterns_are_unique():
    patterns = [quantity.pattern for quantity in QUANTITIES]
    assert len(patterns) == len(set(patterns))


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda quantity: quantity.pattern)
def test_every_pattern_is_found_again(quantity):
    column = quantity.pattern.replace("<layer>", "backbone.layer1.0").replace("<callback>", "LinearProbe")
    key = parse_key(column.replace("<k>", "3").replace("<tau>", "0.07"))
    assert key.quantity is quantity
    assert key.number == (3 if "<k>" in column else None)
    assert key.filled("<tau>") == ("0.07" if "<tau>" in column else "<tau>")
    assert key.layer == column.removeprefix(quantity.section).removesuffix(quantity.name).strip("/")


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda quantity: quantity.pattern)
def test_every_entry_says_how_to_read_it(quantity):
    assert quantity.title
    assert quantity.unit
    assert quantity.reading.endswith(".")
    assert quantity.section in {section.name for section in SECTIONS}
    assert quantity.scale in {"linear", "log", "share"}


@pytest.mark.parametrize(
    ("column", "parts"),
    [
        ("lr-SGD", ("", "", "lr-SGD")),
        ("val/loss", ("val", "", "loss")),
        ("covariance/a/b/trace", ("covariance", "a/b", "trace")),
        ("covariance/a/unheard_of_4", ("covariance", "a", "unheard_of_4")),
    ],
)
def test_keys_that_are_not_ours_are_taken_apart_too(column, parts):
    key = parse_key(column)
    assert (key.section, key.layer, key.name) == parts
    assert key.number is None


def test_whole_networks_have_keys_of_two_parts():
    share = parse_key("covariance/weight_share")
    assert (share.layer, share.quantity.title) == ("", "Weights in the look")


def test_markdown_has_a_row_for_every_quantity():
    rows = keys_as_markdown().splitlines()
    assert len(rows) == 2 + len(QUANTITIES)
    assert all(row.count("|") == 4 for row in rows)


def test_markdown_of_one_section():
    rows = keys_as_markdown("probe").splitlines()[2:]
    assert rows
    assert all(row.startswith("| `probe/") for row in rows)
    assert "Logistic probe, &lt;k> labels a class" in "\n".join(rows)


def test_an_unknown_section_is_refused():
    with pytest.raises(InputError, match=r"Expected `section` to be one of 'train', .*, got 'covarience'"):
        keys_as_markdown("covarience")
