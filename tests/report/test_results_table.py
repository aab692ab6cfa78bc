"""The table at the end of a run, as printed."""

import io

from rich.console import Console

from lightning_ssl_theory.report import read_run, results_table
from lightning_ssl_theory.report.highlights import highlights

from .synthetic_run import write_rows, write_run


def printed(table, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_one_run_shows_first_and_last_and_the_layer(tmp_path):
    write_rows(
        tmp_path / "run", {"probe/backbone/logistic_top1": [0.5, 0.75], "train/loss": [2.0, ""]}, [0, 9]
    )
    text = printed(results_table([read_run(tmp_path / "run")]))
    assert "Logistic probe backbone" in text
    assert "50.0 → 75.0 %" in text
    assert "2.00" in text.split("Training loss")[1]
    assert "→" not in text.split("Training loss")[1]


def test_runs_stand_side_by_side(tmp_path):
    write_rows(tmp_path / "a", {"collapse/x/effective_rank": [4.0, 4.0]}, [0, 1])
    write_rows(tmp_path / "b", {"collapse/y/effective_rank": [4.0, 1.0], "train/loss": [1.0, 0.5]}, [0, 1])
    lines = printed(results_table([read_run(tmp_path / name) for name in "ab"])).splitlines()
    assert [line for line in lines if "4.00 → 4.00" in line and "4.00 → 1.00" in line]
    assert [line for line in lines if "Training loss" in line and "–" in line]


def test_layers_are_summed_up(tmp_path):
    columns = {
        "covariance/a/residual": [0.1, 0.3],
        "covariance/b/residual": [0.3, 0.5],
        "orthogonality/a/drift": [1e-7, 1e-6],
        "orthogonality/b/drift": [1e-7, 1e-7],
        "overhead/x/seconds": [1.0, 2.0],
        "overhead/y/seconds": [2.0, 3.0],
        "probe/a/ridge_top1": [0.5, 0.6],
    }
    write_rows(tmp_path, columns, [0, 1])
    found = {item.title: item for item in highlights(read_run(tmp_path))}
    assert found["Time spent looking"].values == (5.0,)
    (tmp_path / "run.json").write_text('{"seconds": 50.0}')
    of_run = {item.title: item for item in highlights(read_run(tmp_path))}["Time spent looking"]
    assert of_run.last == "10.0 %"
    assert [round(v, 9) for v in found["Gradient residual"].values] == [0.2, 0.4]
    assert found["Orthogonality drift"].values == (1e-7, 1e-6)
    assert found["Ridge probe"].where == "a"


def test_ridge_gives_way_to_logistic(tmp_path):
    titles = [item.title for item in highlights(read_run(write_run(tmp_path, num_looks=2)))]
    assert "Logistic probe" in titles
    assert "Ridge probe" not in titles
