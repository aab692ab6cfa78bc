"""Checkpoints that cannot be used, and disks without room: a sentence, and nothing broken left behind."""

import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from cli.command_line import DIGITS, QUIET, WITHOUT_ADVICE, changed_config, failure
from cli.processes import SECONDS_UNTIL_HUNG, end, logged, start
from lightning_ssl_theory.cli import main
from lightning_ssl_theory.cli.checkpoints import newest_checkpoint, read_checkpoint
from lightning_ssl_theory.cli.run_folder import release_folders, run_of_name
from lightning_ssl_theory.cli.run_metrics import RunMetrics, rows_until
from lightning_ssl_theory.report.logged_run import RunFolderError
from lightning_ssl_theory.warnings import DiagnosticWarning

pytestmark = WITHOUT_ADVICE


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs of four steps."""
    folder = tmp_path_factory.mktemp("run")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert (
            end(start("fit", "--config", DIGITS, "--trainer.max_epochs", "2", "--name", "run", *QUIET)) == 0
        )
    finally:
        os.chdir(before)
    return folder / "runs" / "run"


@pytest.fixture
def checkpoint(run):
    return run / "checkpoints" / "last.ckpt"


def without(path, *keys) -> dict:
    state = torch.load(path, weights_only=True)
    return {key: value for key, value in state.items() if key not in keys}


def refused(capsys, path, command="fit", **changes) -> str:
    return failure(capsys, command, "--config", changed_config(**changes), "--ckpt_path", str(path), *QUIET)


def test_last_goes_on_in_the_folder_of_the_run(run):
    folder = Path("runs/run")
    shutil.copytree(run, folder)
    main(
        [
            "fit",
            "--config",
            DIGITS,
            "--trainer.max_epochs",
            "3",
            "--name",
            "run",
            "--ckpt_path",
            "last",
            *QUIET,
        ]
    )
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
    steps = [int(step) for step, key, _ in logged(folder) if key == "orthogonality/network.hidden/drift"]
    assert sorted(steps) == list(range(13))
    # its own config.yaml starts another run
    assert "ckpt_path: null" in (folder / "config.yaml").read_text()


def test_last_without_a_run(capsys):
    assert "Expected a run to continue in `runs/changed`, found nothing;" in refused(capsys, "last")
    Path("runs/changed").mkdir(parents=True)
    assert "Expected checkpoints in `runs/changed/checkpoints` to go on from, found none;" in refused(
        capsys, "last"
    )


def test_a_run_that_goes_on_is_not_continued_twice(run):
    here, there = os.pipe()
    holder = os.fork()
    if not holder:
        run_of_name(run.parent, run.name)
        os.write(there, b"held")
        time.sleep(SECONDS_UNTIL_HUNG)
        os._exit(0)
    try:
        os.read(here, 4)
        with pytest.raises(
            RunFolderError, match=f"one that another process goes on with .process {holder} on"
        ):
            run_of_name(run.parent, run.name)
    finally:
        os.kill(holder, signal.SIGKILL)
        end(holder)
    run_of_name(run.parent, run.name)  # the lock ends with the process
    release_folders()


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_words_that_a_new_process_does_not_know(command, capsys):
    assert "got `best`, which a new process does not know;" in refused(capsys, "best", command)


def test_unusable_files(checkpoint, capsys):
    whole = checkpoint.read_bytes()
    bad = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "text": b"not a checkpoint",
        "pickled": b"\x80\x04\x95",
    }
    for name, content in bad.items():
        Path(name).write_bytes(content)
        with pytest.raises(
            RunFolderError, match=f"a whole checkpoint at `{name}`, found one that torch does not"
        ):
            read_checkpoint(Path(name), "fit")
    for state in ({"weight": torch.zeros(2)}, [1, 2]):
        torch.save(state, "foreign")
        with pytest.raises(
            RunFolderError, match="a checkpoint of Lightning at `foreign`, found a file of another"
        ):
            read_checkpoint(Path("foreign"), "validate")
    torch.save(without(checkpoint, "optimizer_states", "lr_schedulers", "callbacks"), "weights")
    with pytest.raises(RunFolderError, match="the state of training in `weights`, found weights only;"):
        read_checkpoint(Path("weights"), "fit")
    assert read_checkpoint(Path("weights"), "validate").step == 8
    with pytest.raises(RunFolderError, match=r"a checkpoint at `\.`, found a folder;"):
        read_checkpoint(Path(), "fit")
    assert "Expected a whole checkpoint at `cut`" in refused(capsys, "cut")


def test_checkpoint_of_another_model(checkpoint, capsys):
    sentence = refused(capsys, checkpoint, model__init_args__hidden_features=64)
    assert "Expected a checkpoint of the configured model, found one of another:" in sentence


def test_files_that_cannot_be_used_are_passed_over(checkpoint):
    folder = Path("runs/run/checkpoints")
    folder.mkdir(parents=True)
    (folder / "a.ckpt").write_bytes(checkpoint.read_bytes())
    (folder / "b.ckpt").write_bytes(checkpoint.read_bytes()[:1000])
    (folder / "c.ckpt").symlink_to("nowhere")
    with pytest.warns(
        DiagnosticWarning, match="A checkpoint is passed over. Expected a whole checkpoint at .*b.ckpt"
    ):
        assert newest_checkpoint(folder.parent, []).path == folder / "a.ckpt"
    (folder / "a.ckpt").unlink()
    with pytest.raises(
        RunFolderError, match="to go on from, found only files that cannot be used; Expected a"
    ):
        newest_checkpoint(folder.parent, [])


def test_a_metrics_file_that_is_cut_at_any_byte_gives_true_rows(run):
    text = (run / "metrics.csv").read_bytes()
    rows = rows_until(run / "metrics.csv", num_rows=None, last_step=99)
    ends = [i for i in range(len(text)) if text[i : i + 1] == b"\n"]
    for cut in range(ends[-3] + 1, len(text) + 1):
        Path("metrics.csv").write_bytes(text[:cut])
        found = rows_until(Path("metrics.csv"), num_rows=None, last_step=99)
        assert found == rows[: len(found)]
        assert len(rows) - len(found) <= 2


def test_a_new_column_is_never_a_moment_without_the_old_ones(tmp_path):
    logger = RunMetrics(tmp_path)
    for step in range(3):
        logger.log_metrics({"a": float(step)}, step=step)
    before = (tmp_path / "metrics.csv").read_bytes()
    process = os.fork()
    if not process:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
        try:
            logger.log_metrics({"b": 1.0}, step=3)
        except OSError:
            os._exit(7)
        os._exit(0)
    assert end(process) == 7
    assert (tmp_path / "metrics.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("kilobytes", [3, 20, 90])
def test_a_full_disk_is_named_and_leaves_nothing_broken(kilobytes, capfd):
    process = os.fork()
    if not process:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes, 1024 * kilobytes))
        code = 1
        try:
            main(["fit", "--config", DIGITS, "--trainer.max_epochs", "8", "--name", "run", *QUIET])
            code = 0
        except SystemExit as error:
            code = error.code
        finally:
            os._exit(code)
    code = end(process)
    shown = " ".join(capfd.readouterr())
    assert "--output" not in shown
    assert "File too large; make room on the disk" in shown
    assert "Traceback" not in shown
    assert code == (0 if kilobytes == 90 else 2)  # the report alone, or a checkpoint
    files = [path for path in Path("runs/run").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix == ".part" or path.stat().st_size == 0]
    for path in Path("runs/run/checkpoints").glob("*.ckpt"):
        read_checkpoint(path, "fit")
