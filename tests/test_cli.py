"""The command line, in-process: what a run leaves, and one sentence with exit code 2 for every kind of bad input."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from PIL import Image
from report.synthetic_run import write_run

from lightning_ssl_theory import wandb_logging
from lightning_ssl_theory.bad_input import exit_on_bad_input
from lightning_ssl_theory.cli import main
from lightning_ssl_theory.run_start import finish_loggers, free_folder, run_callbacks, run_loggers

CONFIGS = Path(__file__).parents[1] / "examples" / "configs"
DIGITS = str(CONFIGS / "orthogonal_digits.yaml")
QUIET = [
    "--wandb",
    "off",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.enable_model_summary",
    "false",
]
# advice about long runs, in runs of a few steps
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "LightningCLI's args parameter",
        "The number of training batches",
        ".*does not have many workers",
    )
]


class Interrupt(Callback):
    """Ctrl-C in the third batch."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 2:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def failure(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith("lightning-ssl-theory: ")
    return sentence


def changed_config(**changes) -> str:
    """The digits' configuration with some keys set, `a__b` for a.b, written to a file."""
    settings = yaml.safe_load(Path(DIGITS).read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = settings
        for name in parents:
            place = place[int(name) if name.isdigit() else name]
        place[last] = value
    Path("changed.yaml").write_text(yaml.safe_dump(settings))
    return "changed.yaml"


def rows(folder) -> list[dict[str, str]]:
    with Path(folder, "metrics.csv").open() as file:
        return list(csv.DictReader(file))


# --- help and errors of the command line itself


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_command(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for command in ("demo", "fit", "validate", "test", "report"):
        assert f"\n    {command} " in text


def test_help_needs_no_torch():
    code = (
        "import sys\n"
        "from lightning_ssl_theory.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'lightning', 'wandb', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


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


# --- configurations that are refused


CALLBACK = "trainer__callbacks__4"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trainr": {"a": 1}}, "Expected a key of the configuration, got 'trainr'; the nearest is 'trainer'."),
        ({"trainer__max_epoch": 1}, "Expected a parameter of the Trainer, got 'max_epoch'; the nearest are 'max_epochs'"),
        ({"trainer__max_epochs": "x"}, "Expected another value of type int or null for trainer.max_epochs, got x."),
        ({"model__class_path": "OrthogonlSSL"}, "Expected the name of a class, got 'OrthogonlSSL'; the nearest are 'OrthogonalSSL'"),
        ({"data__class_path": "Digits"}, "Expected the name of a class, got 'Digits'; the nearest are 'DigitsDataModule'"),
        ({"model__init_args__hidden": 3}, "Expected a parameter of OrthogonalSSL, got 'hidden' in changed.yaml; the nearest is 'hidden_features'"),
        ({"data__init_args__batchsize": 3}, "Expected a parameter of DigitsDataModule, got 'batchsize' in changed.yaml; the nearest is 'batch_size'"),
        ({f"{CALLBACK}__class_path": "CollapsMonitor"}, "Expected the name of a class, got 'CollapsMonitor'; the nearest are 'CollapseMonitor'"),
        ({f"{CALLBACK}__init_args": {"every_n_epoch": 1}}, "Expected a parameter of CollapseMonitor, got 'every_n_epoch' in changed.yaml; the nearest are 'every_n_epochs', 'every_n_steps'"),
    ],
)  # fmt: skip
def test_unknown_names_in_yaml(changes, sentence, capsys):
    assert sentence in failure(capsys, "fit", "--config", changed_config(**changes), *QUIET)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bogus=1"], "Expected a key of the configuration, got 'bogus'; choose from 'ckpt_path'"),
        (
            ["--data.batch_siz=3"],
            "Expected a parameter under `data`, got 'batch_siz'; the nearest are 'batch_size'",
        ),
        (["--config", "orthogonal_digit.yaml"], "Expected a file at"),
        (["--ckpt_path", "no.ckpt"], "Expected a checkpoint at `no.ckpt`, found nothing;"),
        (["--wandb", "perhaps"], "wandb"),
    ],
)
def test_unknown_names_on_the_command_line(arguments, sentence, capsys):
    assert sentence in failure(capsys, "fit", "--config", DIGITS, *arguments)


def test_a_near_file_is_named(capsys):
    Path("mnist.yaml").write_text("")
    assert "found nothing; the nearest is 'mnist.yaml'." in failure(capsys, "fit", "--config", "mnits.yaml")


def test_broken_yaml(capsys):
    Path("broken.yaml").write_text("a: [1, 2\nb")
    assert "Problems parsing config" in failure(capsys, "fit", "--config", "broken.yaml")


def test_missing_model_and_data(capsys):
    sentence = failure(capsys, "fit")
    assert "Expected the keys fit." in sentence  # older versions of jsonargparse name one of the two
    assert "found none; pass a configuration with --config FILE." in sentence


# --- what the library itself refuses


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model__init_args__hidden_features": 32}, "Expected `hidden_features`"),
        ({"data__init_args__batch_size": 5000}, "Expected `batch_size` <= 1198"),
        ({f"{CALLBACK}__init_args": {"layers": ["network.hiden"]}}, "got 'network.hiden'; the nearest are 'network.hidden'"),
        ({"trainer__max_epochs": -5}, "max_epochs"),
    ],
)  # fmt: skip
def test_refused_values(changes, sentence, capsys):
    assert sentence in failure(capsys, "fit", "--config", changed_config(**changes), *QUIET)


def test_missing_images(capsys):
    config = str(CONFIGS / "simclr_cifar10_folder.yaml")
    assert "Expected one folder for each class in nowhere/train" in failure(
        capsys, "fit", "--config", config, "--data.data_dir", "nowhere", *QUIET
    )


# --- runs


def test_fit_leaves_a_whole_run(capsys):
    main(["fit", "--config", DIGITS, "--trainer.max_epochs", "4", *QUIET])
    folder = Path("runs/orthogonal_digits")
    assert {path.name for path in folder.iterdir()} >= {
        "config.yaml",
        "metrics.csv",
        "checkpoints",
        "report.html",
    }
    assert (folder / "checkpoints" / "last.ckpt").exists()
    shown = capsys.readouterr().out
    assert "Logistic probe network.output" in shown
    assert shown.rstrip().endswith(f"Report: {folder / 'report.html'}")
    assert "network.hidden.weight (128×64), 64 of 128 filters" in (folder / "report.html").read_text()
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["status"], facts["steps"]) == ("finished", 16)

    # resumed from its checkpoint: another folder, whose curves start where the first run's did
    main(["fit", "--config", DIGITS, "--trainer.max_epochs", "5", "--ckpt_path", str(folder / "checkpoints/last.ckpt"), *QUIET])  # fmt: skip
    assert (
        "runs/orthogonal_digits holds a run already; this one goes to runs/orthogonal_digits-2."
        in capsys.readouterr().out
    )
    column = "orthogonality/network.hidden/drift"
    steps = [int(row["step"]) for row in rows("runs/orthogonal_digits-2") if row[column]]
    assert steps == list(range(21))

    # its own config.yaml starts the same run again
    main(["fit", "--config", str(folder / "config.yaml"), "--trainer.fast_dev_run", "true"])

    main(["validate", "--config", DIGITS, "--ckpt_path", str(folder / "checkpoints/last.ckpt"), *QUIET])
    assert rows("runs/orthogonal_digits-validate")[0]["probe/network.output/logistic_top1"]
    main(["test", "--config", DIGITS, "--name", "again", *QUIET])
    assert Path("runs/again/config.yaml").exists()


def test_ctrl_c_leaves_a_usable_run(capsys):
    config = changed_config(trainer__callbacks=[{"class_path": f"{__name__}.Interrupt"}])
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", config, "--trainer.log_every_n_steps", "1", *QUIET])
    assert stop.value.code == 130
    folder = Path("runs/changed")
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert "from interrupted.ckpt" in (folder / "report.html").read_text()
    assert torch.load(folder / "checkpoints" / "interrupted.ckpt", weights_only=True)["global_step"] == 2
    assert "Report: runs/changed/report.html" in capsys.readouterr().out


def test_demo_in_short(capsys):
    main(["demo", "--quick", "--wandb", "off", "--name", "short", "--output-dir", "out"])
    html = Path("out/short/report.html").read_text()
    for part in ("contrastive", "orthogonal", "unconstrained"):
        assert Path("out/short", part, "report.html").exists()
        assert f'id="{part}"' in html
    chart = html.split("collapse/network.output/effective_rank")[1].split("</svg>")[0]
    assert "orthogonal <b>" in chart
    assert "unconstrained <b>" in chart
    shown = capsys.readouterr().out
    assert "Report: out/short/report.html" in shown
    assert "Weights & Biases" not in shown


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_example_configurations_parse(config, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(config), "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert len(printed["trainer"]["callbacks"]) >= 4


def test_example_of_a_folder_of_images_runs():
    for part, num_images in (("train", 12), ("test", 6)):
        for label in ("cat", "dog"):
            folder = Path("images", part, label)
            folder.mkdir(parents=True)
            for i in range(num_images):
                noise = os.urandom(3 * 32 * 32)
                Image.frombytes("RGB", (32, 32), noise).save(folder / f"{i}.png")
    config = str(CONFIGS / "simclr_cifar10_folder.yaml")
    given = {"data_dir": "images", "batch_size": "6", "num_workers": "0"}
    data = [part for name, value in given.items() for part in (f"--data.{name}", value)]
    main(["fit", "--config", config, *data, "--trainer.fast_dev_run", "2", *QUIET])
    assert not Path("runs").exists()


# --- the run folder's parts


def test_given_callbacks_replace_the_standing_ones(tmp_path):
    standing = run_callbacks(tmp_path)
    assert len(run_callbacks(tmp_path, standing)) == 1  # only what saves after Ctrl-C
    names = [type(callback).__name__ for callback in run_callbacks(tmp_path, has_checkpoints=False)]
    assert names == ["_ProgressBar", "RunReport"]
    assert len(run_callbacks(tmp_path, has_checkpoints=False, has_progress_bar=False)) == 1


def test_a_folder_of_runs_is_not_free(tmp_path):
    write_run(tmp_path / "demo" / "part", num_looks=1)
    assert free_folder(tmp_path, "demo").name == "demo-2"
    assert free_folder(tmp_path, "demo").name == "demo-2"  # still without a run


@pytest.fixture
def _nobody_logged_in(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "NETRC", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("_nobody_logged_in")
def test_wandb_without_a_login_stays_offline_and_keeps_the_data(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    loggers = run_loggers(tmp_path / "run", "online")
    shown = capsys.readouterr().out
    assert "Weights & Biases is not online: nobody is logged in (`wandb login`); the run is kept in" in shown
    loggers[1].log_metrics({"a": 1.0}, step=0)
    finish_loggers(loggers, is_success=True)
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    until = time.monotonic() + 30
    while b"trainer/global_step" not in file.read_bytes():  # wandb's own process writes it
        assert time.monotonic() < until
        time.sleep(0.1)
    assert "WANDB_MODE" not in os.environ


@pytest.mark.usefixtures("_nobody_logged_in")
def test_wandb_out_of_reach_stays_offline(tmp_path, capsys, monkeypatch):
    import wandb

    def refuse(mode, *rest):
        if mode == "online":
            raise wandb.errors.CommError("no answer.\nafter 20 s")
        return "offline run"

    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(wandb_logging, "_init", refuse)
    assert wandb_logging.wandb_logger("online", name="n", save_dir=tmp_path)._experiment == "offline run"
    assert "is not online: no answer; the run is kept in" in capsys.readouterr().out


@pytest.mark.usefixtures("_nobody_logged_in")
def test_credentials_are_found_where_wandb_looks(tmp_path, monkeypatch):
    assert not wandb_logging._has_credentials()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_logging._has_credentials()
    monkeypatch.setenv("WANDB_BASE_URL", "https://elsewhere.example")
    assert not wandb_logging._has_credentials()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert wandb_logging._has_credentials()
