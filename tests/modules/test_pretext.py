"""The module's steps are gradient descent on its losses, for every kind of batch; two ranks train like one."""

import copy
from functools import partial

import pytest
import torch
from helpers.ddp import run_ranks
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI
from torch import nn
from torch.utils.data import DataLoader

from lightning_ssl_theory import PretextSSL
from lightning_ssl_theory.data import DigitsDataModule, GaussianPretextDataModule
from lightning_ssl_theory.losses import BoostedLeastSquaresLoss
from lightning_ssl_theory.networks import MLP

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:The boosted loss has")


def model(head=4, loss=None, inputs=16, **options):
    torch.manual_seed(0)
    options = {"optimizer": partial(torch.optim.SGD, lr=0.1)} | options
    return PretextSSL(MLP([inputs, 8, 6]), nn.Linear(6, head), loss, **options)


def fit(module, batch, **options):
    trainer = Trainer(**QUIET | {"max_epochs": 1, "log_every_n_steps": 1} | options)
    trainer.fit(module, DataLoader([batch], batch_size=None))
    return trainer.callback_metrics


def stepped(module, objective):
    """The parameters after one step of descent on an objective of a copy of the module."""
    twin = copy.deepcopy(module)
    gradients = torch.autograd.grad(objective(twin), list(twin.parameters()))
    return [parameter - 0.1 * grad for parameter, grad in zip(twin.parameters(), gradients, strict=True)]


def assert_steps(module, batch, objective):
    wanted, value = stepped(module, objective), objective(module).item()
    metrics = fit(module, batch)
    assert metrics["train/loss"].item() == pytest.approx(value, rel=1e-5)
    torch.testing.assert_close(list(module.parameters()), wanted)
    return metrics


def test_forward_is_the_backbone_and_embed_the_head():
    module, images = model(), torch.randn(3, 1, 4, 4)
    assert torch.equal(module(images), module.backbone(images))
    assert torch.equal(module.embed(images), module.head(module.backbone(images)))


def test_rotations_are_told_apart_by_cross_entropy():
    images = torch.randn(5, 1, 4, 4)

    def objective(twin):
        total = 0.0
        for turns in range(4):
            scores = twin.embed(torch.stack([torch.rot90(image, turns, (1, 2)) for image in images]))
            total = total - scores.log_softmax(1)[:, turns].sum()
        return total / 20

    assert_steps(model(), (images, torch.arange(5)), objective)


@pytest.mark.parametrize("kind", ["numbers", "classes", "own loss", "own format"])
def test_targets_of_the_batch(kind):
    x, z = torch.randn(5, 16), torch.randn(5, 4)
    classes = torch.tensor([0, 3, 1, 1, 2])
    batch = {"image": x, "pretext": classes if kind == "classes" else z}
    options = {"pretext": "target"}
    if kind == "own loss":
        options["loss"] = nn.L1Loss()
    if kind == "own format":
        batch, options["read_batch"] = (z, x), lambda batch: {"image": batch[1], "pretext": batch[0]}

    def objective(twin):
        found = twin.embed(x)
        if kind == "classes":
            return nn.functional.cross_entropy(found, classes)
        return (found - z).abs().mean() if kind == "own loss" else (found - z).square().sum() / 10

    assert_steps(model(**options), batch, objective)


def least_error(features, targets):
    design = torch.cat([features, torch.ones(len(features), 1)], 1).double()
    solution = torch.linalg.solve(design.mT @ design, design.mT @ targets.double())
    return (targets - design @ solution).square().sum() / len(features)


def test_boosted_by_the_numbers_that_are_known():
    x, z, y = torch.randn(40, 16), torch.randn(40, 4), torch.randn(40, 2)
    y[30:] = torch.nan
    loss = BoostedLeastSquaresLoss(0.5, ridge=0.0)
    metrics = assert_steps(
        model(3, loss, pretext="target"),
        {"image": x, "pretext": z, "downstream": y},
        lambda twin: least_error(twin.embed(x)[:30], y[:30]) - 0.5 * least_error(twin.embed(x), z),
    )
    total = metrics["train/downstream"] + metrics["train/pretext"]
    assert total.item() == pytest.approx(metrics["train/loss"].item(), rel=1e-5)


def test_boosted_by_labels_of_upright_images():
    images, labels = torch.randn(30, 1, 4, 4), torch.arange(30) % 3
    labels[::2] = -1
    loss = BoostedLeastSquaresLoss(0.5, ridge=0.0)

    def objective(twin):
        turned = torch.cat([torch.rot90(images, turns, (2, 3)) for turns in range(4)])
        known, codes = labels >= 0, torch.eye(4).repeat_interleave(30, 0)
        downstream = least_error(twin.embed(images)[known], torch.eye(3)[labels[known]])
        return downstream - 0.5 * least_error(twin.embed(turned), codes)

    assert_steps(model(3, loss, num_classes=3), {"image": images, "label": labels}, objective)


def test_validation_and_test_send_clean_images_through():
    seen = []
    module = model(inputs=64)
    module.head.register_forward_hook(lambda *arguments: seen.append(len(arguments[-1])))
    data, trainer = DigitsDataModule(300), Trainer(**QUIET)
    trainer.validate(module, data, verbose=False)
    trainer.test(module, data, verbose=False)
    assert seen == [300, 299] * 2


def test_sentences():
    boosted = BoostedLeastSquaresLoss(0.5)
    images, x = torch.randn(5, 1, 4, 4), torch.randn(5, 16)
    few = "The boosted loss has n0 = 5 downstream labels in a batch for d_f = 6 features: by Theorem 3"
    with pytest.warns(UserWarning, match=few):
        fit(model(6, boosted, num_classes=3), (images, torch.tensor([0, 1, 2, 0, 1])))
    with pytest.raises(ValueError, match="Expected `num_classes` for batches with class labels, got None"):
        fit(model(3, boosted), (images, torch.arange(5)))
    with pytest.raises(ValueError, match="Expected labels in the batch, found none"):
        fit(model(3, boosted, num_classes=3), [images])
    with pytest.raises(
        ValueError, match=r'Expected "pretext" targets \(N, K\), or classes \(N,\), in the batch'
    ):
        fit(model(pretext="target"), (images, torch.arange(5)))
    with pytest.raises(ValueError, match=r"Expected square `images` to turn, got \(5, 1, 2, 8\)"):
        fit(model(), images.reshape(5, 1, 2, 8))
    with pytest.raises(
        ValueError, match=r'Expected "pretext" numbers \(N, K\) for the boosted loss, got classes'
    ):
        fit(
            model(3, boosted, pretext="target"),
            {"image": x, "pretext": torch.arange(5), "downstream": x[:, :1]},
        )
    with pytest.raises(ValueError, match=r"Expected `targets` in 0\.\.2, got 0 to 3"):
        fit(model(3), (images, torch.arange(5)))


YAML = """
model:
  backbone: {class_path: lightning_ssl_theory.networks.MLP, init_args: {widths: [6, 5]}}
  head: {class_path: torch.nn.Linear, init_args: {in_features: 5, out_features: 3}}
  loss: {class_path: lightning_ssl_theory.losses.BoostedLeastSquaresLoss, init_args: {lamb: 0.2}}
  pretext: target
  optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.03}}
data:
  {setting: entangled, num_features: 6, num_pretext: 3, num_downstream: 1, num_samples: 64, batch_size: 32, num_labels: 20}
"""


def test_command_line_and_checkpoint(tmp_path):
    (tmp_path / "run.yaml").write_text(YAML)
    cli = LightningCLI(
        PretextSSL,
        GaussianPretextDataModule,
        trainer_defaults=QUIET | {"max_steps": 3, "default_root_dir": str(tmp_path)},
        args=["--config", str(tmp_path / "run.yaml")],
        run=False,
        seed_everything_default=False,
        save_config_callback=None,
    )
    cli.trainer.fit(cli.model, cli.datamodule)
    cli.trainer.save_checkpoint(tmp_path / "run.ckpt")
    parts = {"backbone": MLP([6, 5]), "head": nn.Linear(5, 3), "loss": BoostedLeastSquaresLoss(0.2)}
    loaded = PretextSSL.load_from_checkpoint(tmp_path / "run.ckpt", **parts)
    torch.testing.assert_close(loaded.state_dict(), cli.model.state_dict())
    assert loaded.hparams["pretext"] == "target"
    assert torch.load(tmp_path / "run.ckpt", weights_only=True)["global_step"] == 3


def trained(rank, world_size, batch_size):
    world = GaussianPretextDataModule(
        num_features=6, num_pretext=3, num_downstream=1, num_samples=48, num_labels=30, batch_size=batch_size
    )
    module = model(3, BoostedLeastSquaresLoss(0.5), inputs=6, pretext="target")
    strategy = {"strategy": "ddp", "devices": world_size} if world_size > 1 else {"devices": 1}
    trainer = Trainer(**QUIET, max_epochs=3, limit_val_batches=0, **strategy)
    trainer.fit(module, world)
    return [parameter.detach() for parameter in module.parameters()]


@pytest.mark.ddp
def test_two_ranks_train_like_one():
    alone = trained(0, 1, 48)
    for found in run_ranks(trained, 2, 24, init=False):  # the labels lie unevenly on the two
        torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)
    assert max(float((a - b).abs().max()) for a, b in zip(trained(0, 1, 24), alone, strict=True)) > 1e-3
