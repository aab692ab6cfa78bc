"""The guide to the command line, run line by line."""

import re
import shlex
from pathlib import Path

import torch

from cli.command_line import QUIET, WITHOUT_ADVICE
from lightning_ssl_theory.cli import main

GUIDE = (Path(__file__).parents[2] / "docs/guides/command_line.md").read_text()
pytestmark = WITHOUT_ADVICE


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def test_every_command_of_the_guide_runs(capsys):
    (configuration,) = blocks("yaml")
    Path("first.yaml").write_text(configuration)
    for line in "".join(blocks("bash")).replace("\\\n", "").splitlines():
        program, *arguments = shlex.split(line)
        assert program == "lightning-ssl-theory"
        main([*arguments, *([] if arguments[0] == "report" else QUIET[2:])])
    assert {path.name for path in Path("runs").iterdir() if path.is_dir()} == {"first", "cold", "look"}
    assert all(Path(page).exists() for page in ("runs/first/report.html", "comparison.html"))
    assert "temperature: 0.1" in Path("runs/cold/config.yaml").read_text()
    assert torch.load("runs/cold/checkpoints/last.ckpt", weights_only=False)["epoch"] == 5
    assert "probe/backbone/logistic_top1" in capsys.readouterr().out.split("Report:")[-1]


def test_a_run_goes_on_from_the_configuration_in_its_folder():
    Path("first.yaml").write_text(blocks("yaml")[0])
    for _ in range(2):
        main(["fit", "--config", "first.yaml", *QUIET])
    for name in ("first", "first-2"):
        own = f"runs/{name}/config.yaml"
        main(["fit", "--config", own, "--ckpt_path", "last", "--trainer.max_epochs", "5", *QUIET])
        assert torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=False)["epoch"] == 4
    assert {path.name for path in Path("runs").iterdir() if path.is_dir()} == {"first", "first-2"}


def test_validation_ends_its_run_at_weights_and_biases():
    import wandb

    Path("first.yaml").write_text(blocks("yaml")[0])
    main(["validate", "--config", "first.yaml", *QUIET, "--wandb", "offline"])
    assert wandb.run is None
