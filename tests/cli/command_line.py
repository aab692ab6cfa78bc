"""The command line in-process: what it refuses, and configurations to run."""

from pathlib import Path

import lightning.pytorch  # noqa: F401  its log goes to the stderr of the import: not to that of a test that is over
import pytest
import yaml

from lightning_ssl_theory.cli import main

CONFIGS = Path(__file__).parents[2] / "examples" / "configs"
DIGITS = str(CONFIGS / "orthogonal_digits.yaml")
QUIET = [
    "--wandb",
    "off",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.enable_model_summary",
    "false",
]

# Lightning's advice about long runs, in runs of a few steps
WITHOUT_ADVICE = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "LightningCLI's args parameter",
        "The number of training batches",
        ".*does not have many workers",
        r"\w+ never looks",
    )
]


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
