"""Every example runs, with tiny settings."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torchvision.io import write_png

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.filterwarnings("ignore")


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_quickstart(tmp_path):
    values = load("quickstart").main(max_epochs=2, output_dir=str(tmp_path))
    assert values["probe/backbone/logistic_top1"] > 0.7
    assert {"covariance/backbone.conv_1/trace", "selectivity/backbone/selective_share"} <= set(values)
    assert (tmp_path / "quickstart" / "metrics.csv").is_file()


def test_orthogonal_images(tmp_path):
    values = load("orthogonal_images").main(max_epochs=10, output_dir=str(tmp_path))
    assert values["stiefel"]["orthogonality/network.hidden/drift"] < 1e-5
    assert values["stiefel"]["collapse/output/effective_rank"] > 0.8 * 4
    assert values["none"]["collapse/output/effective_rank"] < 1.1


def test_drop_in(tmp_path):
    pytest.importorskip("lightly")
    values = load("drop_in").main(max_steps=2, num_images=32, output_dir=str(tmp_path))
    assert 0 <= values["covariance/backbone.0/signal_ratio"] <= 1
    assert values["covariance/head.layers.0/residual"] > 0
    assert {"probe/backbone/ridge_top1", "selectivity/backbone/max_z"} <= set(values)


def test_simclr_images(tmp_path):
    for split, per_class in (("train", 12), ("test", 4)):
        for label in ("cat", "dog"):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for index in range(per_class):
                image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
                write_png(image, str(tmp_path / "images" / split / label / f"{index}.png"))
    values = load("simclr_images").main(
        "image_folder",
        str(tmp_path / "images"),
        max_steps=1,
        batch_size=8,
        num_workers=0,
        image_size=16,
        output_dir=str(tmp_path),
    )
    assert values["collapse/backbone/effective_rank"] >= 1
    assert (tmp_path / "simclr_image_folder" / "report.html").is_file()


def test_wen_li2021(tmp_path):
    module = load("reproduce/wen_li2021")
    sizes = module.Sizes(48, 6, 24, 64, labels=(60, 120), num_held_out=200)
    verdicts = module.main(sizes=sizes, num_seeds=1, shorten=0.6, output_dir=str(tmp_path))
    assert len(verdicts) == 14
    assert [v.holds for v in verdicts if v.claim == "no masks: dense share >= 0.7"] == [True]
    written = {path.stem for path in (tmp_path / "wen_li2021").iterdir()}
    assert written == {"stages", "atoms", "downstream", "rates", "weights", "looks", "verdicts"}
