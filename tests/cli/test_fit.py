"""Runs of `fit`, `validate` and `test`, and what they leave."""

import csv
import json
import os
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from PIL import Image

from cli.command_line import CONFIGS, DIGITS, QUIET, WITHOUT_ADVICE, changed_config
from lightning_ssl_theory.cli import main
from lightning_ssl_theory.warnings import DiagnosticWarning

pytestmark = WITHOUT_ADVICE


class Interrupt(Callback):
    """Ctrl-C in the third batch."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 2:
            raise KeyboardInterrupt


def rows(folder) -> list[dict[str, str]]:
    with Path(folder, "metrics.csv").open() as file:
        return list(csv.DictReader(file))


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
    shown = capsys.readouterr().out
    assert "\nprobe/network.output/logistic_top1_10_labels  0." in shown
    for silent in ("CovarianceOperators", "OrthogonalityMonitor"):
        assert (
            f"\n{silent} logged nothing: it looks at training batches, of which `validate` has none;" in shown
        )
    assert shown.count("logged nothing") == 2
    main(["test", "--config", DIGITS, "--name", "again", *QUIET])
    assert (
        "Diagnostics logged nothing: they look in `fit` and `validate`, not in `test`."
        in capsys.readouterr().out
    )
    assert Path("runs/again/config.yaml").exists()


def test_a_diagnostic_that_failed_is_named_and_a_class_in_the_working_folder_is_found(capsys, monkeypatch):
    Path("readers_of_mine.py").write_text("def read(batch):\n    raise KeyError('images')\n")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    arguments = {"layers": ["network.output"], "read_batch": "readers_of_mine.read"}
    config = changed_config(trainer__callbacks=[{"class_path": "CollapseMonitor", "init_args": arguments}])
    with warnings.catch_warnings():
        warnings.simplefilter("always", DiagnosticWarning)
        main(["validate", "--config", config, *QUIET])
    told = capsys.readouterr()
    assert "Warning: CollapseMonitor left out a look. Expected a look to run through, KeyError" in told.err
    assert "self._warn(" not in told.err
    assert "\nCollapseMonitor logged nothing: the warning above says why.\n" in f"\n{told.out}"


def test_a_name_in_place_of_a_function_is_kept_as_it_was_given():
    arguments = {"layers": ["network.output"], "output": 0, "every_n_epochs": 9}
    config = changed_config(trainer__callbacks=[{"class_path": "CollapseMonitor", "init_args": arguments}])
    main(["fit", "--config", config, "--trainer.max_epochs", "1", "--name", "run", *QUIET])
    (kept,) = (
        one["init_args"]
        for one in yaml.safe_load(Path("runs/run/config.yaml").read_text())["trainer"]["callbacks"]
    )
    assert kept["output"] == 0


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


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_example_configurations_parse(config, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(config), "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert len(printed["trainer"]["callbacks"]) >= 4


def test_the_example_of_a_large_network_runs():
    for part, num_images in (("train", 12), ("test", 6)):
        for label in ("cat", "dog"):
            folder = Path("images", part, label)
            folder.mkdir(parents=True)
            for i in range(num_images):
                noise = os.urandom(3 * 32 * 32)
                Image.frombytes("RGB", (32, 32), noise).save(folder / f"{i}.png")
    given = {"data_dir": "images", "batch_size": "8", "num_workers": "0"}
    data = [part for name, value in given.items() for part in (f"--data.{name}", value)]
    config = str(CONFIGS / "simclr_cifar10_folder.yaml")
    main(["fit", "--config", config, *data, "--trainer.fast_dev_run", "2", *QUIET])
    assert not Path("runs").exists()
