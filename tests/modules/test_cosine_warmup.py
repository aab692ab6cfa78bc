"""The rise and the cosine, against lightly's, and what the Trainer tells of its length."""

import functools
import math

import pytest
import torch
from helpers.toy_ssl import QUIET
from lightly.utils.scheduler import CosineWarmupScheduler
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lightning_ssl_theory import ContrastiveSSL, PretextSSL
from lightning_ssl_theory.data import DigitsDataModule
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.modules import CosineWarmup

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        ".*isinstance.treespec",
        ".*does not have many workers",
        "Checkpoint directory",
        "You defined",
    )
]
SGD = functools.partial(torch.optim.SGD, lr=0.1)


def optimizer() -> torch.optim.Optimizer:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    return torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.3}], lr=2.0)


def rates(scheduler, optimizer, steps) -> list[list[float]]:
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(("warmup", "total", "final"), [(0, 7, 0.0), (3, 10, 0.2), (1, 3, 0.0), (4, 6, 1.0)])
def test_every_step_is_that_of_lightly(warmup, total, final):
    ours, theirs = optimizer(), optimizer()
    found = rates(CosineWarmup(ours, warmup, total, final_factor=final), ours, total)
    expected = rates(
        CosineWarmupScheduler(theirs, warmup_epochs=warmup, max_epochs=total, end_value=final), theirs, total
    )
    assert found == [pytest.approx(row) for row in expected]


def test_the_curve_by_hand_and_beyond_its_end():
    one = optimizer()
    found = [row[0] for row in rates(CosineWarmup(one, 2, 6, final_factor=0.5), one, 8)]
    cosine = [2 * (0.5 + 0.25 * (1 + math.cos(math.pi * k / 3))) for k in range(4)]
    assert found == pytest.approx([1.0, 2.0, *cosine, 1.0, 1.0])
    one = optimizer()
    assert [row[0] for row in rates(CosineWarmup(one, 1, 2), one, 3)] == pytest.approx([2.0, 0.0, 0.0])


class Rates(Callback):
    def __init__(self):
        self.found = []

    def on_train_batch_start(self, trainer, *_):
        self.found.append(trainer.optimizers[0].param_groups[0]["lr"])


def run(module, **arguments) -> tuple[list[float], Trainer]:
    seen = Rates()
    callbacks = [seen, *arguments.pop("callbacks", [])]
    ckpt_path = arguments.pop("ckpt_path", None)
    trainer = Trainer(**QUIET | {"callbacks": callbacks, "limit_val_batches": 0} | arguments)
    trainer.fit(module, DigitsDataModule(batch_size=300), ckpt_path=ckpt_path)
    return seen.found, trainer


def contrastive(interval="step", **arguments) -> ContrastiveSSL:
    schedule = functools.partial(CosineWarmup, **{"warmup_steps": 2} | arguments)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    return ContrastiveSSL(
        network,
        nn.Linear(8, 4),
        InfoNCELoss(),
        optimizer=SGD,
        scheduler=schedule,
        scheduler_interval=interval,
    )


@pytest.mark.parametrize(
    ("length", "total"),
    [({"max_epochs": 2}, 6), ({"max_steps": 5, "max_epochs": -1}, 5), ({"max_epochs": 2, "accumulate_grad_batches": 3}, 2)],
)  # fmt: skip
def test_steps_are_those_of_the_trainer(length, total):
    found, trainer = run(contrastive(warmup_steps=1), **length)
    one = optimizer()
    expected = [row[0] / 20 for row in rates(CosineWarmup(one, 1, total), one, total)]
    every = length.get("accumulate_grad_batches", 1)
    assert found == pytest.approx([rate for rate in expected for _ in range(every)])
    assert trainer.lr_scheduler_configs[0].scheduler.total_steps == total


def test_epochs_and_a_given_length():
    found, _ = run(contrastive("epoch", warmup_steps=1), max_epochs=3)
    assert found[::3] == pytest.approx([0.1, 0.1, 0.0])
    _, trainer = run(contrastive(total_steps=50), max_epochs=1)
    assert trainer.lr_scheduler_configs[0].scheduler.total_steps == 50
    module = PretextSSL(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8)),
        nn.Linear(8, 4),
        optimizer=SGD,
        scheduler=CosineWarmup,
        scheduler_interval="step",
    )
    assert run(module, max_epochs=1)[0][-1] == 0


def test_a_trial_may_end_within_the_rise():
    assert run(contrastive(warmup_steps=4), max_steps=2, max_epochs=-1)[0] == pytest.approx([0.025, 0.05])


def test_a_resumed_run_goes_on_along_the_curve(tmp_path):
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    whole, _ = run(contrastive(), max_epochs=2, callbacks=[saver], enable_checkpointing=True)
    rest, _ = run(contrastive(), max_epochs=2, ckpt_path=tmp_path / "step=2.ckpt")
    assert rest == pytest.approx(whole[2:])


def test_a_run_resumed_within_an_epoch_sees_the_rest_of_its_data(tmp_path):
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    whole, resumed = contrastive(), contrastive()
    resumed.load_state_dict(whole.state_dict())
    run(whole, max_epochs=2, callbacks=[saver], enable_checkpointing=True)
    for step in (1, 4):
        run(resumed, max_epochs=2, ckpt_path=tmp_path / f"step={step}.ckpt")
        torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_length_that_is_asked_for_later_is_in_the_state():
    one = optimizer()
    scheduler = CosineWarmup(one, 2)
    scheduler.take_steps_from(lambda: 7)
    assert scheduler.total_steps is None
    assert scheduler.state_dict()["total_steps"] == 7
    other = CosineWarmup(optimizer(), 2)
    other.load_state_dict(scheduler.state_dict())
    other.take_steps_from(lambda: 9)
    other.step()
    assert other.total_steps == 7


def test_a_group_that_joins_later_goes_on_along_the_curve():
    one, whole = optimizer(), []
    scheduler = CosineWarmup(one, 2, 8)
    for step in range(9):
        if step == 3:
            one.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": whole[-1] / 4})
            joined = len(one.param_groups) - 1
        one.step()
        scheduler.step()
        whole.append(one.param_groups[0]["lr"])
        assert step < 3 or one.param_groups[joined]["lr"] == pytest.approx(whole[-1] / 4)
    assert whole[-1] == 0


def test_rejects():
    with pytest.raises(ValueError, match="Expected `total_steps` of at least 3, got 2; it counts all steps"):
        CosineWarmup(optimizer(), 2, 2)
    with pytest.raises(ValueError, match=r"Expected `final_factor` in \[0, 1\], got 2"):
        CosineWarmup(optimizer(), 2, 5, final_factor=2)
    with pytest.raises(
        ValueError, match="Expected `total_steps` of CosineWarmup after the steps of its rise"
    ):
        rates(CosineWarmup(optimizer(), 2), optimizer(), 4)
    with pytest.raises(
        ValueError, match="Expected a Trainer with an end in steps, got none for CosineWarmup"
    ):
        run(contrastive(), max_epochs=-1)
