"""Configurations that are refused, by jsonargparse or by the library itself: one sentence with near valid names."""

from pathlib import Path

import pytest

from cli.command_line import CONFIGS, DIGITS, QUIET, WITHOUT_ADVICE, changed_config, failure

pytestmark = WITHOUT_ADVICE
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
