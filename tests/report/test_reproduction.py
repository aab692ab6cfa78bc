"""A reproduction leaves its tables, figures and verdicts, also those that do not hold."""

import csv
import io

import pytest
from rich.console import Console

from lightning_ssl_theory.report import Reproduction, Verdict


def test_files_and_table(tmp_path):
    found = Reproduction("fig1", tmp_path)
    found.table("norms", [{"step": 0, "norm": 1.5}, {"step": 1, "norm": 2.5}])
    with found.figure("norms", num_columns=2) as (left, right):
        left.plot([1.5, 2.5])
        right.set_title("empty")
    text = io.StringIO()
    verdicts = [
        Verdict("it grows", "in words", "1.5 to 2.5", True),
        Verdict("it doubles", "x 2", "x 1.67", False),
        Verdict("it goes on", "in words", "2 steps", None),
    ]
    found.verdicts(verdicts, console=Console(file=text, width=100))
    assert [line.split()[-1] for line in text.getvalue().splitlines() if line.strip().startswith("it")] == [
        "yes",
        "no",
        "tell",
    ]
    assert "norms.csv, norms.png, verdicts.csv" in text.getvalue()
    assert (tmp_path / "fig1" / "norms.png").read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.DictReader((tmp_path / "fig1" / "verdicts.csv").open()))
    assert [row["holds"] for row in rows] == ["True", "False", ""]
    assert list(csv.reader((tmp_path / "fig1" / "norms.csv").open()))[1:] == [["0", "1.5"], ["1", "2.5"]]


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"Expected a folder that can be written, got .* pass another `output_dir`"
    ):
        Reproduction("fig1", tmp_path / "file")
