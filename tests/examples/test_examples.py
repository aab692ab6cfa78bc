"""Every example runs, with tiny settings."""

import csv
import importlib.util
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
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


def test_operators_of_checkpoint(tmp_path, capsys):
    example = load("operators_of_checkpoint")
    torch.save(example.network().state_dict(), tmp_path / "network.pt")
    residuals = example.main(tmp_path / "network.pt", num_samples=48)
    assert set(residuals) == {"0.conv_1", "0.conv_2", "1"}
    assert all(0 < residual < 1 for residual in residuals.values())
    assert "leading eigenvalues" in capsys.readouterr().out


def test_drop_in(tmp_path):
    pytest.importorskip("lightly")
    values = load("drop_in").main(max_steps=2, num_images=32, output_dir=str(tmp_path))
    assert 0 <= values["covariance/backbone.0/signal_ratio"] <= 1
    assert values["covariance/head.layers.0/residual"] > 0
    assert {"probe/backbone/ridge_top1", "selectivity/backbone/max_z"} <= set(values)


def test_ray_train(tmp_path):
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    ray.init(num_cpus=3, include_dashboard=False)
    try:
        values = load("ray_train").main(max_epochs=1, output_dir=str(tmp_path))
    finally:
        ray.shutdown()
    assert {key.split("/")[0] for key in values} >= {"covariance", "collapse", "probe"}
    assert 0 < values["probe/backbone/ridge_top1"] <= 1


@pytest.mark.all_cases  # the YAML of the same run is tried in tests/cli
def test_simclr_images(tmp_path):
    values = load("simclr_images").main(
        "image_folder",
        image_folder(tmp_path / "images", train=12, test=4),
        max_steps=1,
        batch_size=8,
        num_workers=0,
        image_size=16,
        output_dir=str(tmp_path),
    )
    assert values["collapse/backbone/effective_rank"] >= 1
    assert (tmp_path / "simclr_image_folder" / "report.html").is_file()


def verdicts_of(name, folder, **settings):
    """Every script leaves a verdict for each claim, its tables and its figures."""
    verdicts = load(f"reproduce/{name}").main(output_dir=str(folder), num_processes=1, **settings)
    written = {path.name for path in (folder / name).iterdir()}
    assert "verdicts.csv" in written
    assert any(file.endswith(".png") for file in written)
    return {verdict.claim: verdict for verdict in verdicts}


def holds_of(name, folder, **settings):
    return {claim: verdict.holds for claim, verdict in verdicts_of(name, folder, **settings).items()}


def test_wen_li2021(tmp_path):
    sizes = load("reproduce/wen_li2021").Sizes(48, 6, 24, 64)
    found = verdicts_of("wen_li2021", tmp_path, sizes=sizes, num_seeds=2, shorten=0.6)
    assert len(found) == 11
    assert found["no masks: dense share > 0.7"].value > 0.7
    assert {verdict.word for verdict in found.values()} == {"undecided (2 seeds)"}
    written = {path.stem for path in (tmp_path / "wen_li2021").iterdir()}
    assert written == {"stages", "atoms", "rates", "weights", "looks", "verdicts"}


def test_wen_li2021_downstream(tmp_path):
    sizes = load("reproduce/wen_li2021_downstream").Sizes(48, 6, 24, 64, labels=(60, 120), num_held_out=200)
    found = verdicts_of("wen_li2021_downstream", tmp_path, sizes=sizes, num_seeds=2, shorten=0.6)
    assert len(found) == 5
    assert {verdict.word for verdict in found.values()} == {"undecided (2 seeds)"}
    with (tmp_path / "wen_li2021_downstream" / "downstream.csv").open() as file:
        rows = list(csv.DictReader(file))
    learned = ["masks", "no masks", "no masks, growing biases"]
    assert list(dict.fromkeys(row["features"] for row in rows)) == [*learned, "raw input"]
    assert len(rows) == 4 * 2 * 2  # features, seeds, numbers of labels


def test_wen_li2021_images(tmp_path):
    data_dir = image_folder(tmp_path / "images", train=32, test=16)
    verdicts = verdicts_of("wen_li2021_images", tmp_path, data_dir=data_dir, quick=True)
    assert len(verdicts) == 13
    assert {verdict.word for verdict in verdicts.values()} == {"undecided (1 seed)"}
    written = {path.name for path in (tmp_path / "wen_li2021_images").iterdir()}
    figures = {"features.png", "firing.png", "labels.png"}
    assert written == figures | {"features.csv", "labels.csv", "verdicts.csv"}
    with (tmp_path / "wen_li2021_images" / "features.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["features"] for row in rows] == [
        "no augmentation",
        "crops",
        "crops and colour",
        "supervised",
        "untrained",
    ]
    # noise: neighbouring weights have nothing in common, nor have the three channels
    assert float(rows[-1]["roughness"]) == pytest.approx(1, abs=0.1)
    assert float(rows[-1]["colour"]) == pytest.approx(2 / 3, abs=0.1)


def test_wen_li2021_images_counts_firing_in_every_layer():
    """A convolution is read place by place: a neuron that fires at 1 of 4 places of every image fires seldom."""
    images = torch.zeros(6, 1, 2, 2)
    images[:, 0, 0, 0] = 1.0
    same = torch.nn.Conv2d(1, 2, 1)
    same.weight.data, same.bias.data = torch.ones(2, 1, 1, 1), torch.tensor([0.0, 1.0])
    last = torch.nn.Linear(8, 2)
    last.weight.data, last.bias.data = torch.ones(2, 8), torch.tensor([0.0, -99.0])
    backbone = torch.nn.Sequential(same, torch.nn.ReLU(), torch.nn.Flatten(), last, torch.nn.ReLU())
    loader = DataLoader(TensorDataset(images, torch.zeros(6)), batch_size=2)
    first, hidden = load("reproduce/wen_li2021_images").firing_of(backbone, loader, 4)
    assert first.firing_rates.tolist() == [0.25, 1.0]
    assert hidden.firing_rates.tolist() == [1.0, 0.0]


def test_wen_li2021_images_judges_each_filter_by_its_own_size():
    """One large slow filter does not hide the noise of many small ones, nor one red one that the others are grey."""
    script, slow = load("reproduce/wen_li2021_images"), torch.arange(32.0).expand(32, 32)
    noise = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0)).expand(3, 3, 32, 32)
    filters = torch.cat([1e3 * torch.stack([slow, 0 * slow, 0 * slow])[None], noise])
    # a slope of 1 along 32 places: steps of 1 over 4 times the variance (32^2 - 1) / 12
    assert script.roughness(filters)[0] == pytest.approx(3 / (32**2 - 1))
    assert script.roughness(filters)[1:].tolist() == pytest.approx([1] * 3, abs=0.1)
    assert script.colour(filters).tolist() == pytest.approx([2 / 3, 0, 0, 0], abs=1e-5)


def test_wen_li2021_supervised(tmp_path):
    sizes = load("reproduce/wen_li2021_supervised").Sizes(48, 6, 24, 64)
    found = verdicts_of("wen_li2021_supervised", tmp_path, sizes=sizes, num_seeds=2, shorten=0.6)
    assert len(found) == 5
    assert found["labels: sparse share of ||W||² > 0.9"].value > 0.9
    assert found["contrast without masks: sparse share < 0.3"].value < 0.5


def test_esser2023_fig1(tmp_path):
    holds = holds_of("esser2023_fig1", tmp_path, seeds=5, steps=25)
    assert len(holds) == 7
    assert holds["scaled loss: every initialisation ends at one of two points, +-v_1"]


def test_esser2023_fig2(tmp_path):
    settings = {"widths": [64, 128, 256, 512], "seeds": 1, "start_seeds": 5}
    verdicts = verdicts_of("esser2023_fig2", tmp_path, **settings)
    assert len(verdicts) == 9
    assert verdicts["tanh at initialisation, absolute: h^-1.5"].value < -1
    assert verdicts["relu after training: the distance falls with h"].word == "undecided (1 seed)"


def test_esser2023_fig3(tmp_path):
    holds = holds_of("esser2023_fig3", tmp_path, seeds=5, steps=100, widths=(10,))
    assert holds["Grassmann steps follow the Grassmann ODE"]


def test_esser2023_fig4(tmp_path):
    settings = {"data_dir": str(tmp_path), "num_pairs": 5, "svm_width": 100, "steps": 20}  # no MNIST there
    verdicts = verdicts_of("esser2023_fig4", tmp_path, **settings)
    assert (
        "scikit-learn's digits"
        in verdicts["linear SVM: trained network and ODE coincide (1 point on average)"].note
    )
    time = verdicts["a step of training grows with h, one of the ODE does not"]
    assert time.word == "undecided (see benchmarks/flows.py)"


def test_esser2023_beyond(tmp_path):
    holds = holds_of("esser2023_beyond", tmp_path, seeds=5, counts=[20, 40])
    assert holds["plain, polar: follows the Stiefel flow, at first order"]
    assert holds["plain, QR: the path depends on the basis of the inputs"]


def test_tian2020_latent_tree(tmp_path, monkeypatch):
    module = load("reproduce/tian2020_latent_tree")
    tiny = {
        "GROUP_SIZES": (2, 10),
        "LOWEST_POLARITIES": (0.8, 0.9),
        "STEPS_PER_EPOCH": 2,
        "NUM_VALIDATION": 256,
    }
    for name, value in tiny.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "LOSSES", dict(list(module.LOSSES.items())[:2]))
    verdicts = module.main(output_dir=str(tmp_path), num_seeds=2, num_epochs=1, num_processes=1)
    holds = {one.claim: one.holds for one in verdicts}
    assert len(holds) == 11
    assert holds["Thm 6: its direction is a_mu"]
    files = {path.name for path in (tmp_path / "tian2020_latent_tree").iterdir()}
    assert {"correlation.png", "training.png", "levels.csv", "verdicts.csv"} == files


def test_tian2020_losses(tmp_path, monkeypatch):
    module = load("reproduce/tian2020_losses")
    monkeypatch.setattr(module, "BETAS", (0.0, 0.5))
    verdicts = module.main(output_dir=str(tmp_path), num_seeds=1, max_steps=2, num_processes=1)
    holds = {one.claim: one.holds for one in verdicts}
    assert len(holds) == 5
    assert holds["A term of weight beta adds 2 beta OP^aug w to it: L_simp at beta 0.5"]
    assert holds["Thm 3: the operator gives the gradient of L_simp"]


def test_tian2020_byol(tmp_path):
    verdicts = verdicts_of("tian2020_byol", tmp_path, quick=True, num_seeds=1, max_steps=2)
    assert len(verdicts) == 7
    assert {verdict.word for verdict in verdicts.values()} == {"undecided (1 seed)"}
    with (tmp_path / "tian2020_byol" / "byol.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["setting"] for row in rows][:3] == ["BYOL", "no EMA", "no BatchNorm"]
    assert len({row["rank_projections_after"] for row in rows}) > 3


def image_folder(root, size=16, **numbers):
    for split, per_class in numbers.items():
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for index in range(per_class):
                image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
                write_png(image, str(root / split / label / f"{index}.png"))
    return str(root)


def test_huang2021_bound(tmp_path):
    verdicts = verdicts_of("huang2021_bound", tmp_path, num_seeds=1, num_epochs=2)
    assert len(verdicts) == 5
    assert verdicts["Thm 1: the error stays below the bound, in every look at both worlds"].holds
    assert verdicts["clouds: at its best it allows less than 10 % errors"].value < 0.1
    assert "Most in the way is" in verdicts["images: the bound says nothing after training either"].note


def test_huang2021_augmentations(tmp_path):
    data_dir = image_folder(tmp_path / "images", train=32, test=16)
    verdicts = verdicts_of("huang2021_augmentations", tmp_path, data_dir=data_dir, quick=True)
    assert len(verdicts) == 8
    assert "89.92/88.41" in next(iter(verdicts.values())).paper
    with (tmp_path / "huang2021_augmentations" / "augmentations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 9
    assert all(float(row["sigma_lower"]) <= float(row["sigma_upper"]) for row in rows)
    assert len({row["delta"] for row in rows}) == 1


def test_teng2022_pretext(tmp_path):
    holds = holds_of("teng2022_pretext", tmp_path, quick=True, num_seeds=1)
    assert len(holds) == 9
    assert holds["separable: the exact minimiser meets C1 and C2 (Theorem 2)"]
    with (tmp_path / "teng2022_pretext" / "boost.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["data"], row["lambda"]) for row in rows if row["data"] == "images"} == {
        ("images", "0.0"),
        ("images", "0.1"),
    }
    assert len(rows) == 2 * 4 + 2 * 2  # ratios and lambdas, of Gaussian data and of images


def test_scripts_are_short_and_time_nothing():
    """A script reads like the claims of its paper; what several share stands in `report`."""
    for path in sorted((EXAMPLES / "reproduce").glob("*.py")):
        text = path.read_text()
        assert len(text.splitlines()) <= 250, f"{path.name} is longer than 250 lines"
        assert "perf_counter" not in text
        assert "runpy" not in text
        assert "argparse" not in text
