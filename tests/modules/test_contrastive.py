import copy
from functools import partial

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from torch import nn
from torch.utils.data import DataLoader

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.data import DigitsDataModule
from lightning_ssl_theory.networks import MLP

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class TwoParts(nn.Module):
    """alignment = mean (z1 - z2)^2, regularization = -mean |z1 + z2|."""

    def parts(self, z1, z2):
        return {"alignment": (z1 - z2).square().mean(), "regularization": -(z1 + z2).abs().mean()}

    def forward(self, z1, z2):
        return sum(self.parts(z1, z2).values())


def small_model(loss=None, **options):
    torch.manual_seed(0)
    return ContrastiveSSL(MLP([64, 8, 6]), MLP([6, 4]), loss or TwoParts(), **options)


def loader(batch, number=1):
    return DataLoader([batch] * number, batch_size=None)


def fit(model, *data, **options):
    trainer = Trainer(**QUIET | {"max_epochs": 1, "log_every_n_steps": 1} | options)
    trainer.fit(model, *data)
    return trainer


def same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_forward_is_the_backbone_and_embed_the_projection():
    model, images = small_model(), torch.randn(3, 1, 8, 8)
    assert torch.equal(model(images), model.backbone(images))
    assert torch.equal(model.embed(images), model.projector(model.backbone(images)))
    assert isinstance(model, LightningModule)


def test_training_is_gradient_descent_on_the_loss():
    views = [torch.randn(5, 1, 8, 8), torch.randn(5, 1, 8, 8)]
    model = small_model(optimizer=partial(torch.optim.SGD, lr=0.1))
    network = copy.deepcopy(nn.Sequential(model.backbone, model.projector))
    fit(model, loader((views, torch.arange(5)), 3))
    for _ in range(3):
        z1, z2 = network(views[0]), network(views[1])
        loss = (z1 - z2).pow(2).mean() - (z1 + z2).abs().mean()
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    torch.testing.assert_close(model.backbone.state_dict(), network[0].state_dict())
    torch.testing.assert_close(model.projector.state_dict(), network[1].state_dict())


def test_logs_the_mean_over_all_pairs_of_views():
    views = [torch.randn(5, 1, 8, 8) for _ in range(3)]
    model = small_model(optimizer=partial(torch.optim.SGD, lr=0.0))
    metrics = fit(model, loader((views, torch.arange(5)))).callback_metrics
    z = [model.embed(view).detach() for view in views]
    alignment = ((z[0] - z[1]) ** 2 + (z[0] - z[2]) ** 2 + (z[1] - z[2]) ** 2).mean() / 3
    spread = -((z[0] + z[1]).abs() + (z[0] + z[2]).abs() + (z[1] + z[2]).abs()).mean() / 3
    torch.testing.assert_close(metrics["train/alignment"], alignment)
    torch.testing.assert_close(metrics["train/regularization"], spread)
    torch.testing.assert_close(metrics["train/loss"], alignment + spread)


def test_a_loss_without_parts_will_do():
    metrics = fit(
        small_model(nn.MSELoss()), loader([torch.randn(5, 64), torch.randn(5, 64)])
    ).callback_metrics
    assert set(metrics) == {"train/loss"}


@pytest.mark.parametrize("kind", ["lightly", "dictionary"])
def test_foreign_batches(kind):
    views, labels = [torch.randn(5, 64), torch.randn(5, 64)], torch.arange(5)
    batch = (views, labels, ["a"] * 5) if kind == "lightly" else {"views": views, "label": labels}
    assert "train/loss" in fit(small_model(), loader(batch)).callback_metrics


def test_validation_and_test_run_every_layer():
    seen = []
    model, data = small_model(), DigitsDataModule(batch_size=300)
    model.projector.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    trainer = Trainer(**QUIET)
    trainer.validate(model, data, verbose=False)
    assert seen == [300, 299]
    trainer.test(model, data, verbose=False)
    assert seen == [300, 299] * 2


def test_default_optimizer_and_scheduler():
    model = small_model()
    assert isinstance(model.configure_optimizers(), torch.optim.Adam)
    halving = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    views = [torch.randn(5, 64), torch.randn(5, 64)]
    for interval, rate in (("step", 1e-3 / 2**4), ("epoch", 1e-3 / 2**2)):
        model = small_model(scheduler=halving, scheduler_interval=interval)
        trainer = fit(model, loader((views, torch.arange(5)), 2), max_epochs=2)
        assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(rate)


def test_one_view_is_refused():
    with pytest.raises(
        ValueError, match="Expected at least 2 views of every sample in the batch, got 1; pass a loader"
    ):
        fit(small_model(), loader((torch.randn(5, 64), torch.arange(5))))


def test_resumed_run_equals_the_uninterrupted_one(tmp_path):
    def train(epochs, **options):
        model = small_model(optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9))
        checkpoints = ModelCheckpoint(tmp_path, filename="{epoch}", every_n_epochs=1, save_top_k=-1)
        trainer = Trainer(
            **QUIET | {"enable_checkpointing": True},
            max_epochs=epochs,
            callbacks=[checkpoints],
            num_sanity_val_steps=0,
        )
        trainer.fit(model, DigitsDataModule(batch_size=400), **options)
        return model

    whole = train(4)
    torch.randn(5)
    resumed = train(4, ckpt_path=tmp_path / "epoch=1.ckpt")
    assert same_weights(whole, resumed)
    assert not same_weights(whole, train(2))


def test_checkpoint_loads_with_the_modules(tmp_path):
    model = small_model(scheduler_interval="step")
    trainer = fit(model, DigitsDataModule(batch_size=400), max_steps=1)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    modules = {"backbone": MLP([64, 8, 6]), "projector": MLP([6, 4]), "loss": TwoParts()}
    loaded = ContrastiveSSL.load_from_checkpoint(tmp_path / "model.ckpt", **modules)
    assert same_weights(loaded, model)
    assert dict(loaded.hparams) == {"scheduler_interval": "step", "decay_norms_and_biases": True}


YAML = """
model:
  backbone: {class_path: lightning_ssl_theory.networks.SmallConvNet, init_args: {widths: [4, 6], bias: false}}
  projector: {class_path: lightning_ssl_theory.networks.MLP, init_args: {widths: [6, 4]}}
  loss: {class_path: torch.nn.MSELoss}
  optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.03}}
  scheduler: {class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {T_max: 10}}
  scheduler_interval: step
data: {batch_size: 400, noise: false, rotation: 5}
"""


@pytest.mark.parametrize(
    "loss",
    [
        "{class_path: lightning_ssl_theory.losses.CrossCorrelationLoss, init_args: {lamb: 0.01, eps: 1.0e-5}}",
        "{class_path: lightning_ssl_theory.losses.VICRegLoss, init_args: {covariance_weight: 2.0}}",
        "lightning_ssl_theory.losses.SpectralContrastiveLoss",
    ],
)
def test_losses_on_moments_train_from_yaml(tmp_path, loss):
    (tmp_path / "run.yaml").write_text(YAML.replace("{class_path: torch.nn.MSELoss}", loss))
    cli = LightningCLI(
        ContrastiveSSL,
        DigitsDataModule,
        trainer_defaults=QUIET | {"max_steps": 2, "default_root_dir": str(tmp_path)},
        args=["--config", str(tmp_path / "run.yaml")],
        run=False,
        seed_everything_default=False,
        save_config_callback=None,
    )
    before = copy.deepcopy(cli.model)
    cli.trainer.fit(cli.model, cli.datamodule)
    metrics = cli.trainer.callback_metrics
    torch.testing.assert_close(
        metrics["train/loss"], metrics["train/alignment"] + metrics["train/regularization"]
    )
    assert not same_weights(cli.model, before)


def test_command_line_takes_optimizer_and_scheduler_from_yaml(tmp_path):
    (tmp_path / "run.yaml").write_text(YAML)
    cli = LightningCLI(
        ContrastiveSSL,
        DigitsDataModule,
        trainer_defaults=QUIET | {"max_steps": 2, "default_root_dir": str(tmp_path)},
        args=["--config", str(tmp_path / "run.yaml")],
        run=False,
        seed_everything_default=False,
        save_config_callback=None,
    )
    assert cli.model.backbone.conv_1.bias is None
    cli.trainer.fit(cli.model, cli.datamodule)
    optimizer = cli.trainer.optimizers[0]
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["initial_lr"] == 0.03
    assert optimizer.param_groups[0]["lr"] < 0.03
    cli.trainer.save_checkpoint(tmp_path / "run.ckpt")
    trainer = Trainer(**QUIET, max_steps=3)
    trainer.fit(cli.model, cli.datamodule, ckpt_path=tmp_path / "run.ckpt")
    assert trainer.global_step == 3
    assert torch.load(tmp_path / "run.ckpt", weights_only=True)["global_step"] == 2
