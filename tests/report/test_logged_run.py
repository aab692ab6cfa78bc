"""Reading a run folder: whatever a broken-off run has left behind."""

import struct
import time

import pytest

from lightning_ssl_theory.report import RunFolderError, read_run
from lightning_ssl_theory.report.logged_rows import _records, read_rows

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


def test_files_put_one_after_another_are_one_run(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "epoch,step,a\n0,1,1.0\n0,2,2.0\nepoch,step,a\n1,2,5.0\n1,3,nan\nstep,b,a\n4,7.0,6.0\n5,inf,\n"
    )
    run = read_run(tmp_path)
    assert (run.series["a"].steps, run.series["a"].values) == (
        (1, 2, 4),
        (1.0, 5.0, 6.0),
    )  # the later of two counts
    assert run.series["a"].skipped == (3,)
    assert (run.series["b"].values, run.series["b"].last_step) == ((7.0,), 5)
    assert run.last_step == 5


def test_tables_of_other_programs_name_the_step_otherwise(tmp_path):
    (tmp_path / "metrics.csv").write_text("Step,a,_timestamp\n3,1.0,9\n7,2.0,9\n")
    assert {name: one.steps for name, one in read_run(tmp_path).series.items()} == {"a": (3.0, 7.0)}


def write_wandb(folder, rows):
    """An offline run as wandb itself writes it."""
    import wandb

    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
    with wandb.init(project="p", dir=folder, mode="offline", settings=settings) as run:
        for row in rows:
            run.log(row)


@pytest.mark.all_cases
def test_offline_wandb_runs_are_read_where_no_csv_lies(tmp_path):
    long_text = "x" * 70_000  # over several blocks of the file
    rows = [{"trainer/global_step": 10 * i, "train/loss": float(i), "note": long_text} for i in range(4)]
    write_wandb(tmp_path, [*rows, {"trainer/global_step": 40, "train/loss": float("nan"), "a": {"b": 2.5}}])
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    until = time.monotonic() + 30
    while len(read_rows(path)) < 5:  # wandb's own process writes it
        assert time.monotonic() < until
        time.sleep(0.1)
    run = read_run(tmp_path)
    assert (run.series["train/loss"].steps, run.series["train/loss"].values) == (
        (0, 10, 20, 30),
        (0, 1, 2, 3),
    )
    assert run.series["train/loss"].skipped == (40,)
    assert run.series["a/b"].values == (2.5,)
    assert set(run.series) == {"train/loss", "a/b"}
    assert read_run(path.parent).series["train/loss"].values == (0, 1, 2, 3)
    whole, rows = path.read_bytes(), read_rows(path)
    for cut in range(0, len(whole), 9973):  # a process that was killed
        path.write_bytes(whole[:cut])
        assert read_rows(path) == rows[: len(read_rows(path))]
    write_rows(tmp_path, {"train/loss": [7.0]}, [0])
    assert read_run(tmp_path).series["train/loss"].values == (7.0,)


def test_records_of_a_wandb_file_are_put_together():
    """Against a writer of LevelDB's log format: fragments that fill blocks of 32 KiB."""
    records = [b"a", b"b" * 32_740, b"c" * 100_000, b"", b"d" * 10]
    content = b":W&B\0\0\0"
    for record in records:
        rest, is_first = record, True
        while True:
            left = 32_768 - len(content) % 32_768
            if left < 7:
                content += b"\0" * left
                continue
            part, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if is_first else 4) if not rest else (2 if is_first else 3)
            content += struct.pack("<IHB", 0, len(part), kind) + part
            if not rest:
                break
            is_first = False
    assert list(_records(content)) == records
    for cut in range(0, len(content), 997):
        found = list(_records(content[:cut]))
        assert found == records[: len(found)]
