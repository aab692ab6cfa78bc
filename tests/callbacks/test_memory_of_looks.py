"""What a look leaves behind: nothing, by reference counts alone, whether it runs through or fails.

`pytest tests/callbacks/test_memory_of_looks.py -n0 -k flat --steps 5000` watches what is resident over 500 looks.
"""

import gc

import numpy as np
import pytest
import torch
from helpers.every_diagnostic import every_diagnostic
from helpers.live_tensors import live_tensors
from helpers.peak_memory import resident_bytes
from helpers.toy_ssl import QUIET, ToySSL, clean_loader, fit, view_loader
from lightning.pytorch import Callback, Trainer

from lightning_ssl_theory.callbacks import CollapseMonitor, LatentTreeMonitor
from lightning_ssl_theory.data import LatentTreeDataModule
from lightning_ssl_theory.networks import LatentTreeNetwork

NUM_STEPS = 4
DIAGNOSTICS = [type(watch).__name__ for watch in every_diagnostic()]


class BeforeALook(Callback):
    """Stands before a diagnostic in the list; holds what is alive, so that no id is given anew."""

    held: dict

    def on_train_batch_end(self, *_):
        self.held = live_tensors()


class AfterALook(Callback):
    """Stands after it, and notes the shapes of what has come to life, without results."""

    def __init__(self, before, watch):
        self.before, self.watch, self.left = before, watch, []

    def on_train_batch_end(self, trainer, *_):
        spectra = getattr(self.watch, "spectra", {}).values()
        results = [*trainer.callback_metrics.values(), *trainer.logged_metrics.values()]
        levels = getattr(self.watch, "levels", {}).values()
        results += [part for level in levels for part in level]
        results += getattr(self.watch, "_lucky", {}).values()
        results += [part for spectrum in spectra for part in spectrum if part is not None]
        known = {found.untyped_storage().data_ptr() for found in results}
        new = [found for key, found in live_tensors().items() if key not in self.before.held]
        self.left.append(
            [tuple(found.shape) for found in new if found.untyped_storage().data_ptr() not in known]
        )
        self.before.held = {}


def left_by_looks(watch, module, train=None):
    """Shapes of the tensors that each look leaves, with Python's collector of cycles off."""
    before = BeforeALook()
    after = AfterALook(before, watch)
    gc.disable()
    gc.freeze()  # what is alive now is not gone through at every look
    try:
        fit(
            module,
            [before, watch, after],
            train=view_loader(shuffle=False) if train is None else train,
            val=clean_loader(),
            max_steps=NUM_STEPS,
            max_epochs=-1,
        )
    finally:
        gc.unfreeze()
        gc.enable()
    return after.left


class Tree(ToySSL):
    """A network wired like a tree of latents."""

    def __init__(self):
        super().__init__()
        self.backbone = LatentTreeNetwork(2, group_size=3)
        self.projector = torch.nn.Identity()

    def validation_step(self, batch, batch_idx):
        pass


class NoLooks(ToySSL):
    """Trains, but raises in the middle of every look."""

    def training_step(self, batch, batch_idx):
        return self.loss(*[self.projector(self.backbone(view)) for view in batch[0]])

    def embed(self, images):
        features = self.backbone(images)
        raise RuntimeError(f"no look at {tuple(features.shape)}")

    forward = embed

    def validation_step(self, batch, batch_idx):
        pass


class WithoutAxes(ToySSL):
    """Puts out features of which no axis can be told; a look at them is refused after it has run."""

    def embed(self, images):
        return self.projector(self.backbone(images)).flip(0)


@pytest.mark.parametrize("number", range(len(DIAGNOSTICS)), ids=DIAGNOSTICS)
def test_a_look_leaves_no_tensor_behind(number):
    watch = every_diagnostic(every_n_steps=1)[number]
    left = left_by_looks(watch, ToySSL())
    assert watch.values
    assert left == [[]] * NUM_STEPS


class Leaky(CollapseMonitor):
    """Leaves a tensor in a cycle."""

    def measure(self, trainer, pl_module):
        cycle = [torch.ones(5)]
        cycle.append(cycle)
        return super().measure(trainer, pl_module)


def test_a_tensor_left_in_a_cycle_is_noticed():
    assert left_by_looks(Leaky(every_n_steps=1), ToySSL()) == [[(5,)]] * NUM_STEPS


def test_a_look_at_a_tree_leaves_no_tensor_behind():
    watch = LatentTreeMonitor(every_n_steps=1)
    data = LatentTreeDataModule(2, batch_size=10, num_samples=40)
    data.prepare_data()
    data.setup("fit")
    left = left_by_looks(watch, Tree(), data.train_dataloader())
    assert watch.values
    assert left == [[]] * NUM_STEPS


@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize("module", [NoLooks, WithoutAxes])
@pytest.mark.parametrize("number", range(len(DIAGNOSTICS) - 1), ids=DIAGNOSTICS[:-1])
def test_a_look_that_fails_leaves_no_tensor_behind(number, module):
    watch = every_diagnostic(every_n_steps=1)[number]
    assert left_by_looks(watch, module()) == [[]] * NUM_STEPS


@pytest.mark.timeout(3600)
def test_memory_stays_flat_over_many_looks(pytestconfig):
    """Every diagnostic at every 10th step: the slope of what is resident after a start, and hooks that are left."""
    num_steps = pytestconfig.getoption("steps", default=None)
    if not num_steps:
        pytest.skip("runs with --steps 5000")
    module, sizes = ToySSL(), {}
    before = num_hooks(module)

    class Measure(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step % 100 == 0:
                sizes[trainer.global_step] = resident_bytes()

    watches = every_diagnostic(every_n_steps=10)
    lengths = {"max_steps": num_steps, "max_epochs": -1, "check_val_every_n_epoch": 100}
    trainer = Trainer(**QUIET | lengths, callbacks=[*watches, Measure()])  # a logger in memory would grow
    trainer.fit(module, view_loader(), clean_loader())
    assert all(watch.values for watch in watches)
    assert num_hooks(module) == before
    steps = [step for step in sizes if step > num_steps // 5]
    slope, _ = np.polyfit(steps, [sizes[step] for step in steps], 1)  # bytes a step
    print(f"{slope / 1000:.3f} MB per 1000 steps")
    assert slope <= 200


def num_hooks(module):
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(part, name)) for part in module.modules() for name in names)
