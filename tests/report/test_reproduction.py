"""A reproduction leaves its tables, figures and verdicts, also those that do not hold."""

import csv
import io

import pytest
from rich.console import Console

from lightning_ssl_theory.report import Reproduction, mean_verdict

VERDICTS = [
    mean_verdict("it grows", [1.4, 1.5, 1.6, 1.5, 1.5], above=1, note="norm [1]"),
    mean_verdict("it doubles", [1.6, 1.7, 1.8, 1.7, 1.7], above=2, paper="x 2"),
    mean_verdict("it goes on", [2.0, 3.0], above=0),
]


def test_files_and_table(tmp_path):
    found = Reproduction("fig1", tmp_path)
    found.table("norms", [{"step": 0, "norm": 1.5}, {"step": 1, "norm": 2.5}])
    with found.figure("norms", num_columns=2) as (left, right):
        left.plot([1.5, 2.5])
        right.set_title("empty")
    text = io.StringIO()
    assert found.verdicts(VERDICTS, console=Console(file=text, width=110)) == VERDICTS
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    for line in (
        "it grows 1.500 ± 0.088 > 1 yes",
        "norm [1]",
        "it doubles 1.700 ± 0.088 > 2 no",
        "paper: x 2",
        "it goes on 2.5 ± 6.4 > 0 undecided (2 seeds)",
    ):
        assert line in lines
    assert "norms.csv, norms.png, verdicts.csv" in text.getvalue()
    assert (tmp_path / "fig1" / "norms.png").read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.DictReader((tmp_path / "fig1" / "verdicts.csv").open()))
    assert [row["holds"] for row in rows] == ["True", "False", ""]
    assert [row["reason"] for row in rows] == ["", "", "2 seeds"]
    assert float(rows[0]["value"]) == pytest.approx(1.5)
    assert list(csv.reader((tmp_path / "fig1" / "norms.csv").open()))[1:] == [["0", "1.5"], ["1", "2.5"]]


def test_where_there_is_no_terminal_lines_are_wide(tmp_path, capsys):
    claim = " ".join(["a long claim"] * 20)
    Reproduction("fig1", tmp_path).verdicts([VERDICTS[0]._replace(claim=claim)])
    assert max(map(len, capsys.readouterr().out.splitlines()[:-1])) == 110


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"Expected a folder that can be written, got .* pass another `output_dir`"
    ):
        Reproduction("fig1", tmp_path / "file")
