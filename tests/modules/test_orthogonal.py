"""Constrained training keeps the rank of its outputs and the weights orthonormal; unconstrained does not."""

import math
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from helpers.ddp import run_ranks
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

from lightning_ssl_theory.data import DigitsDataModule
from lightning_ssl_theory.losses import TraceLoss
from lightning_ssl_theory.manifolds import orthogonality_drift
from lightning_ssl_theory.modules import OrthogonalSSL
from lightning_ssl_theory.modules.orthogonal_constraint import OrthogonalConstraint

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
BARE = QUIET | {"logger": False, "enable_checkpointing": False}
# Advice of the Trainer that does not concern runs of few steps, and a deprecation inside Lightning itself.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        ".*does not have many workers",
        ".*isinstance.treespec",
        "You defined a `validation_step`",
        "Checkpoint directory",
        "You're resuming from a checkpoint that ended before the epoch",
    )
]


class WatchDrift(Callback):
    """The largest drift over all steps, and whether every weight stayed finite."""

    largest, is_finite = 0.0, True

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        for layer in (pl_module.network.hidden, pl_module.network.output):
            weight = layer.weight
            self.is_finite &= bool(weight.isfinite().all())
            self.largest = max(self.largest, orthogonality_drift(weight.detach()).item())


def effective_rank(outputs: Tensor) -> float:
    eigenvalues = torch.linalg.eigvalsh(torch.cov(outputs.double().mT))
    shares = (eigenvalues / eigenvalues.sum()).clamp(min=1e-16)
    return math.exp(-(shares * shares.log()).sum())


def fit_digits(constraint: str, *, max_steps: int) -> tuple[Trainer, WatchDrift, OrthogonalSSL, float]:
    data, model, watch = (
        DigitsDataModule(256),
        OrthogonalSSL(64, 64, 4, constraint=constraint, lr=0.03),
        WatchDrift(),
    )
    trainer = Trainer(max_steps=max_steps, callbacks=[watch], check_val_every_n_epoch=1000, **BARE)
    trainer.fit(model, data)
    with torch.no_grad():
        outputs = torch.cat([model(images) for images, _ in data.val_dataloader()])
    return trainer, watch, model, effective_rank(outputs)


def test_effective_rank_by_hand() -> None:
    square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert effective_rank(square) == pytest.approx(2.0)
    assert effective_rank(square * torch.tensor([1.0, 0.0])) == pytest.approx(1.0)


ORTHONORMAL = ["grassmann", "stiefel", "polar", "parametrization"]


@pytest.mark.parametrize("constraint", [*ORTHONORMAL, "scaled_loss"])
def test_constraint_keeps_the_rank_on_digits(constraint: str) -> None:
    trainer, watch, _, rank = fit_digits(constraint, max_steps=120)
    assert trainer.global_step == 120
    assert rank > 0.8 * 4
    assert constraint == "scaled_loss" or watch.largest <= 1e-5
    assert trainer.callback_metrics["train/loss"] < -3.0  # it learned too: at the start the loss is near -0.5


def test_frobenius_norms_do_not_keep_the_rank() -> None:
    _, watch, model, rank = fit_digits("frobenius", max_steps=120)
    assert rank < 1.1
    assert watch.is_finite
    for weight, size in ((model.network.hidden.weight, 64), (model.network.output.weight, 4)):
        assert weight.square().sum().item() == pytest.approx(size, rel=1e-5)


def test_without_constraint_the_rank_collapses_and_training_stops_at_the_norm_cap() -> None:
    with pytest.warns(
        UserWarning,
        match=r"Stopped at step \d+: the norm of the unconstrained weights reached max_norm=1000; take constraint",
    ) as caught:
        trainer, watch, model, rank = fit_digits("none", max_steps=120)
    (message,) = (str(warning.message) for warning in caught if "Stopped" in str(warning.message))
    assert message.startswith(f"Stopped at step {trainer.global_step}: ")
    assert 2 < trainer.global_step < 60
    assert rank < 1.1
    assert watch.is_finite
    norm = sum(weight.detach().double().square().sum() for weight in model.network.parameters()) ** 0.5
    assert norm.item() == pytest.approx(1000.0, rel=1e-5)


class FixedViews(DataLoader):
    """The same batches in every epoch: 6 batches of 8 pairs of vectors, or of what `num_views` asks for."""

    def __init__(self, num_views: int = 2, batch_size: int | None = 8) -> None:
        generator = torch.Generator().manual_seed(1)
        views = torch.randn(48, num_views, 5, generator=generator)
        views += 2 * torch.randn(48, 1, 5, generator=generator)
        super().__init__(
            views,
            batch_size,
            collate_fn=lambda rows: (list(torch.stack(rows).unbind(1)), torch.zeros(len(rows))),
        )


@pytest.mark.parametrize("constraint", get_args(OrthogonalConstraint))
def test_a_resumed_run_equals_the_uninterrupted_one(constraint: str, tmp_path: Path) -> None:
    def trained(max_epochs: int, checkpoint: str | None = None) -> OrthogonalSSL:
        torch.manual_seed(3)
        model = OrthogonalSSL(5, 7, 2, "tanh", constraint, lr=0.05)
        saver = ModelCheckpoint(tmp_path, save_last=True)
        trainer = Trainer(max_epochs=max_epochs, callbacks=[saver], logger=False, **QUIET)
        trainer.fit(model, FixedViews(), ckpt_path=checkpoint)
        return model

    whole = trained(4)
    half = trained(2)
    resumed = trained(4, str(tmp_path / "last.ckpt"))
    assert not torch.equal(half.network.hidden.weight, whole.network.hidden.weight)
    for name, weight in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight)
    for layer in (resumed.network.hidden, resumed.network.output):
        assert constraint not in ORTHONORMAL or orthogonality_drift(layer.weight.detach()) <= 1e-5


def test_a_run_resumed_at_the_norm_cap_stops_again(tmp_path: Path) -> None:
    model = OrthogonalSSL(5, 7, 2, constraint="none", lr=1.0, max_norm=50.0)
    saver = ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1)
    for checkpoint in (None, str(tmp_path / "last.ckpt")):
        trainer = Trainer(max_epochs=100, callbacks=[saver], logger=False, **QUIET)
        with pytest.warns(UserWarning, match="reached max_norm=50;"):
            trainer.fit(model, FixedViews(), ckpt_path=checkpoint)
        assert trainer.global_step < 100
        assert all(weight.isfinite().all() for weight in model.parameters())


def test_min_steps_past_the_norm_cap_stay_finite() -> None:
    model = OrthogonalSSL(5, 7, 2, constraint="none", lr=1.0)
    trainer = Trainer(min_steps=30, max_epochs=100, **BARE)
    with pytest.warns(UserWarning, match="reached max_norm=1000") as caught:
        trainer.fit(model, FixedViews())
    assert trainer.global_step == 30
    assert sum("max_norm" in str(warning.message) for warning in caught) == 1
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_load_from_checkpoint_restores_settings_and_weights(tmp_path: Path) -> None:
    model = OrthogonalSSL(5, 7, 2, "tanh", "polar", lr=0.05, max_norm=7.0)
    trainer = Trainer(max_steps=2, logger=False, enable_checkpointing=False, **QUIET)
    trainer.fit(model, FixedViews())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = OrthogonalSSL.load_from_checkpoint(tmp_path / "model.ckpt")
    assert dict(loaded.hparams) == dict(model.hparams)
    assert_close(loaded.state_dict(), model.state_dict(), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("contrastive", [True, False])
def test_logs_the_mean_over_pairs_of_views(contrastive: bool) -> None:
    model = OrthogonalSSL(5, 7, 2, loss=TraceLoss(contrastive=contrastive))
    trainer = Trainer(max_steps=1, **BARE)
    loader = FixedViews(num_views=3)
    views, _ = next(iter(loader))
    with torch.no_grad():
        parts = [model.loss.parts(model(a), model(b)) for a, b in combinations(views, 2)]
    trainer.fit(model, loader)
    logged = {
        name: trainer.callback_metrics[f"train/{name}"] for name in ("alignment", "regularization", "loss")
    }
    for name in ("alignment", "regularization"):
        assert_close(logged[name], sum(part[name] for part in parts) / 3)
    assert_close(logged["loss"], logged["alignment"] + logged["regularization"])
    assert (logged["regularization"] != 0.0) == contrastive


def test_validation_and_test_send_clean_images_through_the_layers() -> None:
    model, seen = OrthogonalSSL(64, 64, 4), []
    model.network.hidden.register_forward_hook(lambda *arguments: seen.append(len(arguments[2])))
    trainer = Trainer(**BARE)
    trainer.validate(model, DigitsDataModule(256), verbose=False)
    trainer.test(model, DigitsDataModule(256), verbose=False)
    assert seen == [256, 256, 87] * 2  # the 599 held-out images


def _fit_on_ranks(rank: int, world_size: int, rows: int) -> list[Tensor]:
    views = _uneven_views()
    mine = [view[:rows] if rank == 0 else view[rows:] for view in views]
    torch.manual_seed(5)
    model = OrthogonalSSL(5, 7, 2, lr=0.05)
    strategy = {"strategy": "ddp", "devices": world_size} if world_size > 1 else {}
    trainer = Trainer(max_steps=4, use_distributed_sampler=False, **strategy, **BARE)
    trainer.fit(model, DataLoader([(mine, torch.zeros(len(mine[0])))] * 2, batch_size=None))
    return [weight.detach().clone() for weight in model.parameters()]


def _uneven_views() -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    centres = torch.randn(8, 5, generator=generator) * torch.arange(1.0, 9.0)[:, None]
    return [centres + torch.randn(8, 5, generator=generator) for _ in range(2)]


@pytest.mark.ddp
def test_two_ranks_with_uneven_batches_train_like_one() -> None:
    one = _fit_on_ranks(0, 1, 8)
    ranks = run_ranks(_fit_on_ranks, 2, 3, init=False)
    for weights in ranks:
        assert_close(weights, one, rtol=0.0, atol=1e-5)
    assert not torch.allclose(_fit_on_ranks(0, 1, 3)[0], one[0], atol=1e-2)  # the rows of rank 0 alone


def test_rejects_too_few_hidden_features() -> None:
    with pytest.raises(ValueError, match="Expected `hidden_features` >= `in_features` = 64, got 32"):
        OrthogonalSSL(64, 32, 4)


def test_rejects_settings() -> None:
    with pytest.raises(
        ValueError, match=r"Expected `constraint` to be one of grassmann, .*, none, got 'grassman'"
    ):
        OrthogonalSSL(64, 64, 4, constraint="grassman")
    with pytest.raises(ValueError, match="Expected `activation` to be one of"):
        OrthogonalSSL(64, 64, 4, "sine")
    with pytest.raises(ValueError, match=r"Expected `lr` > 0, got 0\.0"):
        OrthogonalSSL(64, 64, 4, lr=0.0)
    with pytest.raises(ValueError, match=r"Expected `max_norm` in \(0, inf\], got -1\.0"):
        OrthogonalSSL(64, 64, 4, max_norm=-1.0)


def test_rejects_batches() -> None:
    model = OrthogonalSSL(5, 7, 2)
    with pytest.raises(ValueError, match="at least 2 samples to take negatives from, got 1"):
        Trainer(max_steps=1, **BARE).fit(model, FixedViews(batch_size=1))
    with pytest.raises(ValueError, match="at least 2 views of every sample in the batch, got 1"):
        Trainer(max_steps=1, **BARE).fit(model, FixedViews(num_views=1))
    with pytest.raises(ValueError, match="with 5 numbers a sample, got"):
        model(torch.zeros(4, 1, 8, 8))
