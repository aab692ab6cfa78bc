"""The module's step is the theory's: its loss, its gradient descent with weight decay, its negatives."""

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.toy_ssl import MemoryLogger
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader

from lightning_ssl_theory import FeatureDecouplingSSL
from lightning_ssl_theory.callbacks import BiasSchedule
from lightning_ssl_theory.data import SparseCodingDataModule
from lightning_ssl_theory.losses import StopGradientInfoNCELoss
from lightning_ssl_theory.networks import SymmetrizedReLU

SMALL = {
    "num_features": 12,
    "num_atoms": 4,
    "probability": 0.4,
    "batch_size": 16,
    "num_samples": 32,
    "block_size": 4,
}
BARE = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "log_every_n_steps": 1,
}
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*isinstance.treespec")


def test_one_step_is_gradient_descent_with_weight_decay():
    world = SparseCodingDataModule(**SMALL)
    network = SymmetrizedReLU(12, 6, init_std=0.3)
    network.bias.fill_(0.1)
    before = network.weight.detach().clone().requires_grad_()
    (first, second), clean = (batch := next(iter(world.train_dataloader())))["views"], batch["image"]

    def features(x):
        drives = x @ before.mT
        return drives.sign() * (drives.abs() - 0.1).clamp(min=0)

    objective = StopGradientInfoNCELoss()(features(first), features(second), features(clean))
    (gradient,) = torch.autograd.grad(objective + 1e-3 / 2 * before.square().sum(), before)
    logger = MemoryLogger()
    Trainer(max_steps=1, limit_val_batches=0, logger=logger, **BARE).fit(FeatureDecouplingSSL(network), world)
    torch.testing.assert_close(network.weight.detach(), (before - gradient).detach())
    ((_, values),) = logger.looks("train/loss")
    assert values["train/loss"] == pytest.approx(objective.item(), rel=1e-5)
    assert values["train/alignment"] + values["train/regularization"] == pytest.approx(
        values["train/loss"], abs=1e-5
    )


def test_batches_without_clean_images_and_another_loss():
    class Loss(nn.Module):
        def parts(self, z1, z2, negatives):
            self.negatives_are_first_views = torch.equal(negatives, z1)
            return {"alignment": (z1 - z2).square().mean()}

    views = [torch.randn(8, 12), torch.randn(8, 12)]
    loader = DataLoader([(views, torch.arange(8))], batch_size=None)
    module = FeatureDecouplingSSL(nn.Linear(12, 3), Loss(), optimizer=torch.optim.Adam)
    Trainer(max_steps=1, logger=False, **BARE).fit(module, loader)
    assert module.loss.negatives_are_first_views
    assert isinstance(module.configure_optimizers(), torch.optim.Adam)


def test_validation_and_test_send_clean_images_through():
    seen = []
    network = SymmetrizedReLU(12, 3, init_std=0.1)
    network.register_forward_hook(lambda *arguments: seen.append(arguments[-1].shape))
    world, trainer = SparseCodingDataModule(**SMALL, num_held_out=20), Trainer(logger=False, **BARE)
    module = FeatureDecouplingSSL(network)
    trainer.validate(module, world, verbose=False)
    trainer.test(module, world, verbose=False)
    assert seen == [(16, 3), (4, 3)] * 2


def trained(rank, world_size, batch_size):
    network = SymmetrizedReLU(12, 6, init_std=0.3, generator=torch.Generator().manual_seed(0))
    strategy = {"strategy": "ddp", "devices": world_size} if world_size > 1 else {"devices": 1}
    trainer = Trainer(
        max_steps=5,
        limit_val_batches=0,
        logger=False,
        callbacks=[BiasSchedule(["network"], start_step=2)],
        **strategy,
        **BARE,
    )
    trainer.fit(FeatureDecouplingSSL(network), SparseCodingDataModule(**SMALL | {"batch_size": batch_size}))
    return network.weight.detach(), network.bias


@pytest.mark.ddp
def test_two_ranks_train_like_one():
    weight, bias = trained(0, 1, 16)
    for found, found_bias in run_ranks(trained, 2, 8, init=False):
        torch.testing.assert_close(found, weight)
        torch.testing.assert_close(found_bias, bias)
    assert (trained(0, 1, 8)[0] - weight).abs().max() > 1e-2  # what a rank would do alone
