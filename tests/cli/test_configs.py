"""The example configurations on a folder of a few images: each builds its parts and makes a step; so do the recipes'."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cli.command_line import CONFIGS, QUIET, WITHOUT_ADVICE, changed_config
from lightning_ssl_theory.cli import main

pytestmark = WITHOUT_ADVICE
SIMCLR = CONFIGS / "simclr_cifar10_folder.yaml"  # a large network: test_fit.py has it
FOLDERS = [path for path in sorted(CONFIGS.glob("*_cifar10_folder.yaml")) if path != SIMCLR]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", 32), ("test", 6)):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


@pytest.mark.parametrize("config", FOLDERS, ids=lambda path: path.stem)
def test_a_step_of_every_system(config, images):
    given = {"data_dir": str(images), "batch_size": "64", "num_workers": "0"}
    data = [part for name, value in given.items() for part in (f"--data.{name}", value)]
    main(["fit", "--config", str(config), *data, "--trainer.fast_dev_run", "1", *QUIET])


@pytest.mark.parametrize("config", FOLDERS, ids=lambda path: path.stem)
def test_the_name_of_the_file_is_the_one_to_type(config):
    text = config.read_text()
    assert f"fit --config examples/configs/{config.name} --data.data_dir data/cifar10" in text
    settings = yaml.safe_load(text)
    assert len(settings["trainer"]["callbacks"]) >= 4
    assert (settings["trainer"]["max_epochs"], settings["data"]["init_args"]["num_train_samples"]) == (
        6,
        5000,
    )
    full = yaml.safe_load("{" + re.search(r"^#   (backbone: .*)$", text, re.MULTILINE)[1] + "}")
    assert full["backbone"] == {"class_path": "ResNet", "init_args": {"name": "resnet18", "stem": "cifar"}}


def test_the_recipe_of_lars_and_a_cosine():
    page = (Path(__file__).parents[2] / "docs" / "guides" / "recipes.md").read_text()
    recipe = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])["model"]["init_args"]
    network = {"class_path": "MLP", "init_args": {"widths": [64, 16]}}
    parts = {"backbone": network, "projector": {"class_path": "torch.nn.Identity"}}
    model = {
        "class_path": "ContrastiveSSL",
        "init_args": {**parts, "loss": {"class_path": "InfoNCELoss"}, **recipe},
    }
    config = changed_config(model=model, trainer__callbacks=[])
    main(["fit", "--config", config, "--trainer.max_epochs", "1", *QUIET])
    settings = yaml.safe_load(Path("runs/changed/config.yaml").read_text())["model"]["init_args"]
    assert settings["optimizer"]["class_path"] == "lightly.utils.lars.LARS"
    assert settings["scheduler"]["class_path"].endswith("CosineWarmup")
