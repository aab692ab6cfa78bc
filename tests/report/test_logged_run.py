"""Reading a run folder: whatever a broken-off run has left behind."""

import pytest

from lightning_ssl_theory.report import RunFolderError, read_run
from lightning_ssl_theory.report.logged_run import read_rows

from .synthetic_run import write_rows, write_run


def test_series_are_sorted_by_step_and_blank_cells_are_skipped(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,a,b\n0,3,1.0,\n0,1,2.0,5\n1,,,\n")
    run = read_run(tmp_path)
    assert run.series["a"].steps == (1.0, 3.0)
    assert run.series["a"].values == (2.0, 1.0)
    assert (run.series["b"].first, run.series["b"].last) == (5.0, 5.0)
    assert "epoch" not in run.series


def test_numbers_that_are_not_finite_are_left_out_and_counted(tmp_path):
    write_rows(tmp_path, {"a": [1.0, "nan", "inf", "x", 2.0], "b": ["nan"] * 5}, [0, 1, 2, 3, 4])
    run = read_run(tmp_path)
    assert run.series["a"].values == (1.0, 2.0)
    assert run.series["a"].skipped == (1, 2, 3)
    assert run.empty == ("b",)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_cut_off_at_any_byte_gives_whole_rows_only(tmp_path, end):
    lines = ["epoch,step,a,b", "0,1,2.25,5.5", "0,2,,7.125", "1,3,4.75,"]
    text = end.join([*lines, ""])
    whole = [
        {"epoch": "0", "step": "1", "a": "2.25", "b": "5.5"},
        {"epoch": "0", "step": "2", "b": "7.125"},
        {"epoch": "1", "step": "3", "a": "4.75"},
    ]
    for cut in range(len(text) + 1):
        (tmp_path / "metrics.csv").write_bytes(text[:cut].encode())
        num_rows = max(text[:cut].count("\n") - 1, 0)
        assert read_rows(tmp_path / "metrics.csv") == whole[:num_rows]


def test_fields_beyond_all_bounds_are_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_text(f"step,a\n1,2.0\n2,{'9' * 200_000}\n3,4.0\n")
    assert read_run(tmp_path).series["a"].values == (2.0, 4.0)


def test_rows_without_a_step_are_numbered(tmp_path):
    (tmp_path / "metrics.csv").write_text("a\n1.0\n2.0\n")
    assert read_run(tmp_path).series["a"].steps == (0.0, 1.0)


def test_sub_runs_come_in_the_order_they_were_started(tmp_path):
    for name, started in (("z", "2026-01-01"), ("a", "2026-01-02"), ("b", "")):
        write_run(tmp_path / name, num_looks=1)
        (tmp_path / name / "run.json").write_text(f'{{"started": "{started}"}}')
    run = read_run(tmp_path)
    assert [part.name for part in run.parts] == ["z", "a", "b"]
    assert not run.series


def test_broken_run_json_counts_as_missing(tmp_path):
    write_run(tmp_path, num_looks=1)
    for text in ("{", "[1]"):
        (tmp_path / "run.json").write_text(text)
        assert read_run(tmp_path).facts == {}


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "found nothing"),
        (lambda path: path.write_text(""), "found a file"),
        (lambda path: path.mkdir(), "to hold a metrics.csv, found none"),
        (lambda path: write_rows(path, {"a": [""]}, [0]), "found one without values"),
    ],
)
def test_folders_that_are_no_run_folders(tmp_path, make, found):
    make(tmp_path / "run")
    with pytest.raises(RunFolderError, match=f"Expected .*{found}.*; .*"):
        read_run(tmp_path / "run")
