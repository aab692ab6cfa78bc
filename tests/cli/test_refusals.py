"""Configurations that are refused, by jsonargparse or by the library itself: one sentence with near valid names."""

from pathlib import Path

import pytest

from cli.command_line import CONFIGS, DIGITS, QUIET, WITHOUT_ADVICE, changed_config, failure
from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.cli import fit
from lightning_ssl_theory.cli.config_faults import first_fault
from lightning_ssl_theory.cli.yaml_values import register_tensors

pytestmark = WITHOUT_ADVICE
CALLBACK = "trainer__callbacks__4"
KEYS = ("config", "seed_everything", "trainer", "model", "data", "name", "output_dir", "wandb", "ckpt_path")


def fault(*options: str) -> str | None:
    """What is said of a command line that jsonargparse has refused, without the seconds that it takes to refuse."""
    register_tensors()
    return first_fault(fit._given(options), KEYS, fit._SHORT_NAMES, "yaml")


def callback(name, **arguments):
    return {"trainer__callbacks": [{"class_path": name, "init_args": arguments}]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trainr": {"a": 1}}, "Expected a key of the configuration, got 'trainr' in changed.yaml; the nearest is 'trainer'."),
        ({"model": None}, "Expected a `model`, found none; pass a configuration with --config FILE."),
        ({"trainer__max_epoch": 1}, "Expected a parameter of Trainer, got 'max_epoch' at `trainer` in changed.yaml; the nearest are 'max_epochs'"),
        ({"trainer__max_epochs": "x"}, "for `trainer.max_epochs`, got 'x'; change it in changed.yaml."),
        ({"model__class_path": "OrthogonlSSL"}, "Expected the name of a class at `model` in changed.yaml, got 'OrthogonlSSL'; the nearest are 'OrthogonalSSL'"),
        ({"model__class_path": "nowhere.Model"}, "Expected the name of a class at `model` in changed.yaml, got 'nowhere.Model'"),
        ({"model__init_args__hidden": 3}, "Expected a parameter of OrthogonalSSL, got 'hidden' at `model` in changed.yaml; the nearest is 'hidden_features'"),
        ({"model__init_args__hidden_features": "a"}, "Expected a value of type int for `model.hidden_features`, got 'a'"),
        ({f"{CALLBACK}__class_path": "CollapsMonitor"}, "Expected the name of a class at `trainer.callbacks[4]` in changed.yaml, got 'CollapsMonitor'; the nearest are 'CollapseMonitor'"),
        ({f"{CALLBACK}__init_args": {"every_n_epoch": 1}}, "Expected a parameter of CollapseMonitor, got 'every_n_epoch' at `trainer.callbacks[4]` in changed.yaml; the nearest are 'every_n_epochs', 'every_n_steps'"),
        ({f"{CALLBACK}__init_args": {"every_n_epochs": "x"}}, "for `trainer.callbacks[4].every_n_epochs`, got 'x'"),
        (callback("CovarianceOperators", precision="f32"), "Expected a value of type Literal['float32', 'float64'] for `trainer.callbacks[0].precision`, got 'f32'"),
        (callback("CovarianceOperators", loss={"class_path": "InfoNCELoss", "init_args": {"temp": 1}}), "Expected a parameter of InfoNCELoss, got 'temp' at `trainer.callbacks[0].loss` in changed.yaml; the nearest is 'temperature'"),
        (callback("FeatureNormMonitor", dictionary="no.pt"), "Expected a tensor in the file `no.pt`, found: [Errno 2]"),
        (callback("FeatureNormMonitor", dictionary=[[1, 2], [3]]), "Expected a tensor as nested lists of numbers or the path of a file, got '[[1, 2], [3]]'"),
        (callback("CollapseMonitor", read_batch="nowhere.read"), "for `trainer.callbacks[0].read_batch`, got 'nowhere.read' ("),
        ({}, None),
    ],
)  # fmt: skip
def test_faults_in_yaml(changes, sentence):
    found = fault("--config", changed_config(**changes))
    assert found is None if sentence is None else sentence in found


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bogus=1"], "Expected a key of the configuration, got 'bogus' on the command line; choose from 'ckpt_path'"),
        (["--data.batch_siz=3"], "Expected a parameter of DigitsDataModule, got 'batch_siz' at `data` on the command line; the nearest is 'batch_size'"),
        (["--data.init_args.batch_size", "a"], "for `data.batch_size`, got 'a'; change it on the command line."),
        (["--data", "Digits"], "Expected the name of a class at `data` on the command line, got 'Digits'; the nearest are 'DigitsDataModule'"),
        (["--trainer.callbacks+=CollapsMonitor"], "Expected the name of a class at `trainer.callbacks[6]` in"),
        (["--trainer.callbacks+", "CollapseMonitor", "--trainer.callbacks.num_sample", "3"], "got 'num_sample' at `trainer.callbacks[6]`"),
        (["--model.help", "OrthogonalSSL"], None),
    ],
)  # fmt: skip
def test_faults_on_the_command_line(arguments, sentence):
    found = fault("--config", DIGITS, *arguments)
    assert found is None if sentence is None else sentence in found


def test_files_that_cannot_be_read():
    Path("mnist.yaml").write_text("")
    with pytest.raises(
        InputError, match=r"Expected a file at `mnits\.yaml`, found nothing; the nearest is 'mnist\.yaml'"
    ):
        fault("--config", "mnits.yaml")
    with pytest.raises(
        InputError, match=r"Expected keys such as `model:` in `mnist\.yaml`, found NoneType; add them"
    ):
        fault("--config", "mnist.yaml")
    Path("broken.yaml").write_text("a: [1, 2\nb")
    with pytest.raises(
        InputError, match=r"Expected YAML in `broken\.yaml`, found: while parsing a flow sequence"
    ):
        fault("--config=broken.yaml")
    with pytest.raises(
        InputError, match=r"Expected keys under `trainer` in changed\.yaml, got 3; write keys such"
    ):
        fault("-c", changed_config(trainer=3))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--trainer.max_epochz", "3"], "got 'max_epochz' at `trainer` on the command line; the nearest are 'max_epochs'"),
        (["--trainer.max_ep", "3"], "Expected a parameter of Trainer, got 'max_ep' at `trainer` on the command line; the nearest are"),
        (["--na", "x"], "Expected a key of the configuration, got 'na' on the command line; the nearest is 'name'."),
        (["--ckpt_path", "no.ckpt"], "Expected a checkpoint at `no.ckpt`, found nothing;"),
        (["--wandb", "perhaps"], 'Parser key "wandb": Expected a typing.Literal['),
    ],
)  # fmt: skip
def test_refused_by_the_parser(arguments, sentence, capsys):
    assert sentence in failure(capsys, "fit", "--config", DIGITS, *arguments)


def test_missing_model_and_data(capsys):
    assert "Expected a `model`, found none; pass a configuration with --config FILE." in failure(
        capsys, "fit"
    )


# --- what the library itself refuses


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model__init_args__hidden_features": 32}, "Expected `hidden_features`"),
        ({"data__init_args__batch_size": 5000}, "Expected `batch_size` <= 1198"),
        ({f"{CALLBACK}__init_args": {"every_n_epochs": -3}}, "trainer.callbacks[4] (CollapseMonitor): Expected `every_n_epochs` of at least 1, got -3;"),
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
