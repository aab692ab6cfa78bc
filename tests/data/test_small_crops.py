"""Small crops beside the views: from the loader and on the device, in training and under the diagnostics."""

import re
import warnings
from pathlib import Path

import pytest
import torch
from cli.command_line import QUIET as QUIET_FILE
from helpers.ddp import run_ranks
from helpers.image_folders import write_images
from helpers.toy_ssl import QUIET
from lightning.pytorch import Trainer
from scipy.stats import ks_2samp
from torch import nn

from lightning_ssl_theory import ContrastiveSSL, MomentumContrastSSL, PredictorSSL
from lightning_ssl_theory.callbacks import CollapseMonitor, CovarianceOperators, LinearProbe
from lightning_ssl_theory.cli import main
from lightning_ssl_theory.data import ImageDataModule, random_view, random_views
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.networks import SmallConvNet
from lightning_ssl_theory.warnings import DiagnosticWarning

DOCS = Path(__file__).parents[2] / "docs"
SMALL = {"num_small_crops": 3, "small_crop_size": 5}
PATHS = pytest.mark.parametrize("on_device", [False, True], ids=["loader", "device"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


def images(root, on_device, **arguments) -> ImageDataModule:
    usual = {"batch_size": 4, "image_size": 8, "augment_on_device": on_device}
    return ImageDataModule("image_folder", root, **usual | arguments)


def batches(data, epoch=0) -> list:
    """Views and labels of an epoch, as a training step gets them."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def by_sample(found, data, epoch=0) -> dict:
    """The views of each sample by its number."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    rows = [row for views, _ in found for row in zip(*views, strict=True)]
    return dict(zip(loader.sampler, rows, strict=False))


def all_equal(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@PATHS
def test_they_follow_the_views_and_leave_them_as_they_are(folder, on_device):
    plain, with_crops = (batches(images(folder, on_device, **kind)) for kind in ({}, SMALL))
    for (views, labels), (more, same_labels) in zip(plain, with_crops, strict=True):
        assert [view.shape for view in more] == [(4, 3, 8, 8)] * 2 + [(4, 3, 5, 5)] * 3
        assert all_equal([*views, labels], [*more[:2], same_labels])
        assert len({crop.sum().item() for crop in more[2:]}) == 3


@PATHS
def test_they_depend_on_seed_epoch_and_sample_alone(folder, on_device):
    def epoch(number, **arguments):
        data = images(folder, on_device, **SMALL | arguments)
        return by_sample(batches(data, number), data, number)

    first = epoch(0)
    assert len(first) == 16
    for same in (epoch(0, batch_size=2), epoch(0, num_workers=2), epoch(0, num_workers=1, batch_size=8)):
        assert same.keys() == first.keys()
        assert all(all_equal(first[sample], same[sample]) for sample in first)
    for changed in (epoch(1), epoch(0, seed=1)):
        assert not any(torch.equal(first[sample][4], changed[sample][4]) for sample in first)


def _views_of_rank(rank, world_size, folder, on_device):
    data = images(Path(folder), on_device, **SMALL)
    return by_sample([([view.clone() for view in views], labels) for views, labels in batches(data)], data)


@pytest.mark.ddp
@PATHS
def test_any_number_of_ranks_gives_a_sample_the_same_crops(folder, on_device):
    ranks = run_ranks(_views_of_rank, 2, str(folder), on_device)
    alone = _views_of_rank(0, 1, folder, on_device)
    assert [len(one) for one in ranks] == [8, 8]
    assert not ranks[0].keys() & ranks[1].keys()
    for sample, views in (ranks[0] | ranks[1]).items():
        assert all_equal(views, alone[sample])


def test_boxes_have_the_same_law_on_both_paths():
    # on two ramps the slope of a crop is the side of its box in pixels of the image, its middle the box's
    count, size, scale = 1500, 24, (0.05, 0.14)
    ramp = torch.arange(64.0).expand(64, 64)
    ramps = torch.stack([ramp, ramp.T, ramp]) / 64
    off = {"flip": 0.0, "color": 0.0, "gray": 0.0, "blur": 0.0, "scale": scale}
    single = random_view(size, [0.0] * 3, [1 / 64] * 3, **off)
    many = random_views(
        ramps.expand(count, -1, -1, -1), [0.0] * 3, [1 / 64] * 3, **off, size=size, seeds=torch.arange(count)
    )
    facts = []
    for crops in (torch.stack([single(ramps) for _ in range(count)]), many):
        width, height = (
            (crops[:, c].select(d, 18) - crops[:, c].select(d, 6)).mean(1) * size / 12
            for c, d in ((0, 2), (1, 1))
        )
        area, ratio = width * height / 64**2, width / height
        centres = crops[:, :2].mean((2, 3))
        facts.append([area, ratio, width, height, centres[:, 0], centres[:, 1]])
        # whole pixels: half a pixel of sides of at least 12 and 20
        assert scale[0] * (1 - 1 / 12) < area.min() < scale[0] * 1.1
        assert scale[1] * 0.95 < area.max() < scale[1] * (1 + 1 / 20)
    for ours, theirs in zip(*facts, strict=True):
        assert ks_2samp(ours, theirs).pvalue > 1e-3
        error = (ours.var() / count + theirs.var() / count).sqrt()
        assert (ours.mean() - theirs.mean()).abs() < 4 * error
        assert ours.var().item() == pytest.approx(theirs.var().item(), rel=0.2)


def test_their_size_is_three_sevenths_of_the_views():
    data = ImageDataModule("image_folder", "data", num_small_crops=6)
    assert (data.image_shape[1], data._small.size) == (224, 96)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"num_small_crops": -1}, "Expected `num_small_crops` of at least 0, got -1"),
        ({"num_small_crops": 2, "num_views": 0}, "Expected `num_views` of at least 1, got 0"),
        (
            {"num_small_crops": 2, "small_crop_size": 32},
            "Expected `small_crop_size` below 32, the size of the large views, got 32; losses tell .* by `num_views`",
        ),
        ({"num_small_crops": 2, "image_size": 1}, "Expected `small_crop_size` below 1, .* got 1"),
        ({"small_crop_size": 0}, "Expected `small_crop_size` of at least 1, got 0"),
        ({"small_crop_scale": 0.1}, "Expected `small_crop_scale` to be a list, got 0.1"),
        ({"small_crop_scale": (0.1, 1.5)}, r"Expected `small_crop_scale` in \(0, 1\], got 1.5"),
        ({"small_crop_scale": (0.3, 0.1)}, r"Expected `small_crop_scale` to be the smallest and .*, got \[0.3, 0.1\]"),
    ],
)  # fmt: skip
def test_rejects(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        ImageDataModule("image_folder", "data", **{"image_size": 32} | wrong)


def backbone() -> SmallConvNet:
    return SmallConvNet(3, [4, 6])


SYSTEMS = {
    "contrastive": lambda: ContrastiveSSL(backbone(), nn.Linear(6, 4), InfoNCELoss()),
    "simsiam": lambda: PredictorSSL(backbone(), nn.Linear(6, 4), nn.Linear(4, 4)),
    "byol": lambda: PredictorSSL(backbone(), nn.Linear(6, 4), nn.Linear(4, 4), ema=0.9),
    "moco": lambda: MomentumContrastSSL(backbone(), nn.Linear(6, 4), queue_size=8),
}


@PATHS
@pytest.mark.parametrize("system", SYSTEMS)
def test_diagnostics_watch_without_disturbing(folder, system, on_device):
    def trained(*callbacks, **kind):
        torch.manual_seed(0)
        module = SYSTEMS[system]()
        trainer = Trainer(**QUIET, max_epochs=1, num_sanity_val_steps=0, callbacks=list(callbacks))
        trainer.fit(module, images(folder, on_device, **kind))
        return module.state_dict(), trainer.callback_metrics

    steps = {"every_n_steps": 1, "strict": True}
    covariance = CovarianceOperators(["projector"], num_probes=2, **steps)
    watching = [covariance, CollapseMonitor(["backbone"], **steps), LinearProbe("backbone", strict=True)]
    alone, _ = trained(**SMALL)
    with pytest.warns(DiagnosticWarning, match="left out '3 of 5 views': .* such as global crops") as found:
        watched, logged = trained(*watching, **SMALL)
    assert len([one for one in found if issubclass(one.category, DiagnosticWarning)]) == 1
    assert watched.keys() == alone.keys()
    assert all(torch.equal(watched[name], alone[name]) for name in alone)
    assert {"covariance", "collapse", "probe"} <= {key.split("/")[0] for key in logged}
    assert all(value.isfinite() for value in logged.values())
    without, _ = trained()  # the crops do enter the loss
    assert not all(torch.equal(without[name], alone[name]) for name in alone)


CONFIG = """
model:
  class_path: ContrastiveSSL
  init_args:
    backbone: {class_path: SmallConvNet, init_args: {in_channels: 3, widths: [4, 6]}}
    projector: {class_path: torch.nn.Linear, init_args: {in_features: 6, out_features: 4}}
    loss: {class_path: InfoNCELoss}
trainer:
  max_epochs: 1
  log_every_n_steps: 1
  callbacks:
    - {class_path: CovarianceOperators, init_args: {layers: [projector], every_n_steps: 1, num_probes: 2}}
    - {class_path: CollapseMonitor, init_args: {layers: [backbone], every_n_steps: 1}}
    - {class_path: LinearProbe, init_args: {layer: backbone}}
"""


@PATHS
def test_from_the_guides_configuration(folder, on_device, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (guide,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "guides" / "multi_crop.md").read_text(), re.DOTALL)
    Path("run.yaml").write_text(CONFIG + guide)
    given = {"augment_on_device": str(on_device).lower(), "data_dir": str(folder), "batch_size": "4"}
    data = [part for name, value in given.items() for part in (f"--data.{name}", value)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(["fit", "--config", "run.yaml", *data, *QUIET_FILE])
    (metrics,) = Path("runs").rglob("metrics.csv")
    header = metrics.read_text().splitlines()[0]
    assert all(word in header for word in ("train/loss", "covariance/projector", "collapse/", "probe/"))
