"""Help, the subcommands' own options, and one sentence with exit code 2 for bad input."""

import subprocess
import sys
from pathlib import Path

import pytest
from report.synthetic_run import write_run

import lightning_ssl_theory
from cli.command_line import DIGITS, QUIET, failure
from lightning_ssl_theory.cli import main
from lightning_ssl_theory.cli.refusals import exit_on_bad_input


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_command(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for command in ("demo", "fit", "validate", "test", "report", "dashboard", "doctor"):
        assert f"\n    {command} " in text


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_short_help_of_training(command, capsys):
    main([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"usage: lightning-ssl-theory {command} --config FILE [--KEY VALUE ...]"
    assert "--help=all" in "".join(lines)
    assert "Expected --help or --help=all, got '--help=a'; choose one." in failure(
        capsys, command, "--help=a"
    )


def test_whole_help_of_training(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--help=all"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: lightning-ssl-theory [options] fit ")
    assert "--trainer.accumulate_grad_batches" in text


def test_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"lightning-ssl-theory {lightning_ssl_theory.__version__}\n"


def test_help_needs_no_torch():
    code = (
        "import sys\n"
        "from lightning_ssl_theory.cli import main\n"
        "for arguments in (['--help'], ['fit', '--help']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        "assert not {'torch', 'lightning', 'wandb', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_report_needs_neither_torch_nor_lightning(tmp_path):
    code = (
        "import sys\n"
        "from lightning_ssl_theory.cli import main\n"
        "main(['report', sys.argv[1]])\n"
        "heavy = {'torch', 'lightning', 'scipy', 'wandb'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    folder = write_run(tmp_path / "run", num_looks=3)
    subprocess.run([sys.executable, "-c", code, folder], check=True, stdout=subprocess.DEVNULL)


def test_the_installed_module_runs_as_a_process(tmp_path):
    folder = write_run(tmp_path / "run", num_looks=3)
    done = subprocess.run(
        [sys.executable, "-m", "lightning_ssl_theory", "report", folder], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Report: {folder / 'report.html'}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["repot"], "Expected a command, got 'repot'; the nearest is 'report'."),
        (["demo", "--nam=x"], "Expected an option of `lightning-ssl-theory demo`, got '--nam'; the nearest are '--name'"),
        (["demo", "--wandb", "yes"], "argument --wandb: invalid choice: 'yes'"),
        (["demo", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["report"], "the following arguments are required: folder"),
        (["report", "nowhere"], "Expected a run folder at `nowhere`, found nothing;"),
        (["report", "."], "to hold a metrics.csv, found none;"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, sentence, capsys):
    assert sentence in failure(capsys, *arguments)


def test_several_runs_side_by_side(capsys):
    for name in ("one", "two"):
        write_run(Path(name), num_looks=2)
    main(["report", "one", "two"])
    assert capsys.readouterr().out == "Report: comparison.html\n"
    assert "one · two" in Path("comparison.html").read_text()
    assert "Expected different runs, found" in failure(capsys, "report", "one", "one")


def test_report_that_cannot_be_written(capsys):
    write_run(Path("run"), num_looks=2)
    Path("file").write_text("")
    assert "Expected to be able to write `file/r.html`" in failure(
        capsys, "report", "run", "--output", "file/r.html"
    )


@pytest.mark.parametrize("command", ["demo", "fit"])
def test_run_folder_that_cannot_be_made(command, capsys):
    Path("file").write_text("")
    arguments = {
        "demo": ["demo", "--quick", "--output-dir", "file"],
        "fit": ["fit", "--config", DIGITS, "--output_dir", "file", *QUIET],
    }
    assert "Expected to be able to make the run folder `file/" in failure(capsys, *arguments[command])


def test_only_errors_of_our_own_become_a_sentence():
    with pytest.raises(ValueError, match="not ours"), exit_on_bad_input():
        raise ValueError("not ours")
