"""Promise 1: with and without the diagnostics, training is bitwise the same."""

import random
from copy import deepcopy

import numpy as np
import pytest
import torch
from helpers.ddp import run_ranks
from helpers.every_diagnostic import SECTIONS, every_diagnostic
from helpers.toy_ssl import ToySSL, clean_loader, fit, seed_all, view_loader

NUM_STEPS = 30


def end_of_training(callbacks, *, num_steps=NUM_STEPS, is_manual=False, is_compiled=False, **arguments):
    """Everything that training has decided after some steps, and the looks by section."""
    seed_all()
    module = ToySSL(is_manual=is_manual)
    if is_compiled:
        module.backbone.compile(backend="aot_eager")
    trainer, logger = fit(
        module,
        callbacks,
        train=view_loader(),
        val=clean_loader(),
        max_steps=num_steps,
        max_epochs=-1,
        **arguments,
    )
    end = {
        "weights and buffers": deepcopy(module.state_dict()),
        "optimizer": deepcopy(trainer.optimizers[0].state_dict()),
        "gradients": {name: p.grad for name, p in module.named_parameters()},
        "modes": {name: m.training for name, m in module.named_modules()},
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.random.get_state()[1].astype("int64")),
        "python": random.getstate(),
        "step": trainer.global_step,
    }
    return end, {section: logger.looks(f"{section}/") for section in SECTIONS}


def assert_equal(left, right, path=""):
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_equal(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), path
    else:
        assert left == right, path


def check_undisturbed(*, every_n_steps=5, every_n_epochs=2, num_steps=15, **arguments):
    arguments |= {"num_steps": num_steps}
    plain, none = end_of_training([], **arguments)
    assert not any(none.values())
    watched, looks = end_of_training(
        every_diagnostic(every_n_steps=every_n_steps)
        + every_diagnostic(every_n_epochs=every_n_epochs, name="epochs"),
        **arguments,
    )
    assert plain["step"] == num_steps
    assert_equal(plain, watched)
    for section, rows in looks.items():
        assert len(rows) > 1 + num_steps // every_n_steps, section  # those by steps, and some by epochs
        assert all(values for _, values in rows), section
    return watched


@pytest.mark.parametrize("is_manual", [False, True], ids=["automatic", "manual"])
def test_one_process(is_manual):
    num_steps = 15 if is_manual else NUM_STEPS
    check_undisturbed(is_manual=is_manual, every_n_steps=4, num_steps=num_steps)


def test_gradient_accumulation_and_clipping():
    check_undisturbed(accumulate_grad_batches=2, gradient_clip_val=0.5)


def test_autocast():
    check_undisturbed(precision="bf16-mixed")


def test_compiled_backbone():
    check_undisturbed(is_compiled=True)


def on_each_rank(rank, world_size, is_manual):
    end = check_undisturbed(is_manual=is_manual, strategy="ddp", devices=world_size)
    return end["weights and buffers"]


@pytest.mark.ddp
@pytest.mark.parametrize(
    "is_manual", [False, pytest.param(True, marks=pytest.mark.all_cases)], ids=["automatic", "manual"]
)
def test_two_processes(is_manual):
    first, second = run_ranks(on_each_rank, 2, is_manual, init=False)
    one_process, _ = end_of_training([], num_steps=15)
    alone = one_process["weights and buffers"]["projector.out.weight"]
    assert torch.equal(first["projector.out.weight"], second["projector.out.weight"])
    assert not torch.equal(first["projector.out.weight"], alone)


def test_a_look_that_draws_and_trains_is_noticed(monkeypatch):
    """The check itself can fail: a forward pass in training mode moves BatchNorm and the random state."""
    from lightning_ssl_theory.callbacks import CollapseMonitor

    def careless(self, pl_module, batch, num_samples):
        pl_module.embed(batch[0][0] if isinstance(batch[0], list) else batch[0])

    monkeypatch.setattr(CollapseMonitor, "observe", careless)
    monkeypatch.setattr(CollapseMonitor, "measure", lambda *_: {"x": 1.0})
    plain, _ = end_of_training([])
    watched, _ = end_of_training([CollapseMonitor(every_n_steps=4)])
    assert not torch.equal(
        plain["weights and buffers"]["backbone.norm.running_mean"],
        watched["weights and buffers"]["backbone.norm.running_mean"],
    )
