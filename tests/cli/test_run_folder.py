"""What every run starts with: its folder and its standing callbacks."""

from report.synthetic_run import write_run

from lightning_ssl_theory.cli.run_folder import new_folder, run_callbacks


def test_given_callbacks_replace_the_standing_ones(tmp_path):
    standing = run_callbacks(tmp_path)
    names = [type(callback).__name__ for callback in run_callbacks(tmp_path, standing)]
    assert names == ["ResumePoint", "StopSignals"]
    names = [type(callback).__name__ for callback in run_callbacks(tmp_path, has_checkpoints=False)]
    assert names == ["_ProgressBar", "RunReport"]
    assert len(run_callbacks(tmp_path, has_checkpoints=False, has_progress_bar=False)) == 1


def test_a_folder_of_runs_is_not_free(tmp_path):
    write_run(tmp_path / "demo" / "part", num_looks=1)
    assert new_folder(tmp_path, "demo").name == "demo-2"
    assert new_folder(tmp_path, "demo").name == "demo-2"  # still without a run
