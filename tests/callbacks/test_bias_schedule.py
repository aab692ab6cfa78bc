"""BiasSchedule sets the biases that a loop over steps would, resumes where it was, and says what it cannot use."""

import pytest
import torch
from helpers.toy_ssl import QUIET
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lightning_ssl_theory import FeatureDecouplingSSL
from lightning_ssl_theory.callbacks import BiasSchedule
from lightning_ssl_theory.data import SparseCodingDataModule
from lightning_ssl_theory.networks import SymmetrizedReLU

SMALL = {
    "num_features": 12,
    "num_atoms": 4,
    "probability": 0.4,
    "batch_size": 16,
    "block_size": 4,
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*isinstance.treespec", "ignore:Checkpoint directory"
)


class Recorder(Callback):
    """Lengths of the neurons and biases at the start and after every step."""

    def __init__(self):
        self.rows = []

    def on_train_start(self, trainer, pl_module):
        self._record(pl_module)

    def on_train_batch_end(self, trainer, pl_module, *_):
        self._record(pl_module)

    def _record(self, pl_module):
        network = pl_module.network
        self.rows.append((network.weight.detach().norm(dim=1).tolist(), network.bias.tolist()))


def module():
    torch.manual_seed(0)
    return FeatureDecouplingSSL(SymmetrizedReLU(12, 5, init_std=0.2))


def fit(ssl, callbacks, *, max_steps=6, ckpt_path=None, num_samples=16, **arguments):
    options = QUIET | {"enable_checkpointing": True} | arguments
    trainer = Trainer(max_steps=max_steps, limit_val_batches=0, callbacks=callbacks, **options)
    trainer.fit(ssl, SparseCodingDataModule(**SMALL, num_samples=num_samples), ckpt_path=ckpt_path)
    return ssl


def schedule(**arguments):
    return BiasSchedule(["network"], **{"start_step": 2, "growth": 0.1} | arguments)


@pytest.mark.parametrize("start_step", [0, 2])
def test_biases_of_every_step(start_step, tmp_path):
    recorder = Recorder()
    fit(module(), [schedule(start_step=start_step), recorder], enable_checkpointing=False)
    for step, (norms, biases) in enumerate(recorder.rows):
        for i, (norm, bias) in enumerate(zip(norms, biases, strict=True)):
            if step < start_step:
                expected = 0.0
            elif step == start_step:
                expected = 0.3 * norm
            else:
                old_norms, old_biases = recorder.rows[step - 1]
                expected = min(max(1.1 * old_biases[i], old_biases[i] * norm / old_norms[i]), 0.5 * norm)
            assert bias == pytest.approx(expected, rel=1e-5)
    assert max(recorder.rows[-1][1]) > 0


def test_resumed_run_equals_the_uninterrupted_one(tmp_path):
    saver = ModelCheckpoint(tmp_path, "{step}", save_on_train_epoch_end=True, save_top_k=-1)
    whole = fit(module(), [schedule(), saver]).state_dict()
    for step in (1, 2, 4):
        resumed = fit(module(), [schedule()], ckpt_path=tmp_path / f"step={step}.ckpt").state_dict()
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_begins_at_once_where_start_step_has_passed_without_it(tmp_path):
    saver = ModelCheckpoint(tmp_path, "{step}", save_on_train_epoch_end=True, save_top_k=-1)
    fit(module(), [saver], max_steps=4)
    late = Recorder()
    fit(module(), [schedule(), late], ckpt_path=tmp_path / "step=4.ckpt", enable_checkpointing=False)
    (norms, at_4), (_, at_5), *_ = late.rows
    assert at_4 == pytest.approx([0.3 * norm for norm in norms], rel=1e-5)
    assert at_5 != at_4


class TwoOptimizers(LightningModule):
    """Two steps a batch, so that `global_step` is never odd between batches."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.network = module().network
        self.other = nn.Parameter(torch.ones(()))

    def training_step(self, batch, batch_idx):
        loss = self.network(batch["image"]).square().mean() + self.other.square()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self):
        return [torch.optim.SGD([weight], lr=0.1) for weight in (self.network.weight, self.other)]


def test_begins_at_the_first_step_seen_where_a_batch_makes_two():
    recorder = Recorder()
    fit(
        TwoOptimizers(),
        [schedule(start_step=3), recorder],
        max_steps=8,
        num_samples=64,
        enable_checkpointing=False,
    )
    (_, at_0), (_, at_2), (norms, at_4), (_, at_6), _ = recorder.rows
    assert at_0 == at_2 == [0.0] * 5
    assert at_4 == pytest.approx([0.3 * norm for norm in norms], rel=1e-5)
    assert at_6 != at_4


def test_a_new_run_begins_anew_and_a_continued_one_goes_on():
    used, recorder = schedule(start_step=0), Recorder()
    fit(module(), [used], enable_checkpointing=False)
    trainer = Trainer(max_steps=2, limit_val_batches=0, callbacks=[used, recorder], **QUIET)
    ssl, world = module(), SparseCodingDataModule(**SMALL, num_samples=16)
    trainer.fit(ssl, world)
    norms, biases = recorder.rows[0]
    assert biases == pytest.approx([0.3 * norm for norm in norms], rel=1e-5)
    trainer.fit_loop.epoch_loop.max_steps = 4
    trainer.fit(ssl, world)
    assert recorder.rows[3] == recorder.rows[2]  # the second call starts from where the first one ended
    assert recorder.rows[4] != recorder.rows[3]


def test_schedules_of_two_layers_keep_their_states_apart():
    network = nn.Sequential(SymmetrizedReLU(12, 5, init_std=0.2), SymmetrizedReLU(5, 3, init_std=0.2))
    schedules = [BiasSchedule([f"network.{i}"], start_step=i) for i in (0, 1)]
    fit(FeatureDecouplingSSL(network), schedules, max_steps=2, enable_checkpointing=False)
    assert all((layer.bias > 0).all() for layer in network)


def test_accumulated_gradients_count_as_one_step():
    recorder = Recorder()
    fit(
        module(),
        [schedule(start_step=1), recorder],
        max_steps=2,
        num_samples=32,
        accumulate_grad_batches=2,
        enable_checkpointing=False,
    )
    before, one, two, three, four = (row[1] for row in recorder.rows)
    assert before == one == [0.0] * 5
    assert two == three  # nothing moves between optimiser steps
    assert four != three


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_step": -1}, "Expected `start_step` of at least 0, got -1; 0 starts at once."),
        ({"cap": 0.0}, "Expected `cap` > 0, got 0.0"),
        ({"initial": 0.6}, r"Expected `initial` in \(0, cap = 0.5\], got 0.6; pass a smaller one."),
        ({"initial": 0.0}, r"Expected `initial` in \(0, cap = 0.5\], got 0.0"),
        ({"growth": -0.1}, "Expected `growth` >= 0, got -0.1; 0 lets"),
    ],
)
def test_rejected_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedule(**arguments)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            nn.Linear(12, 5),
            "Expected the bias of the layer 'network' to be left alone by the optimiser, got a trainable",
        ),
        (
            nn.Linear(12, 5, bias=False),
            r"to have a weight \(m, d1\) and a bias \(m,\), got \(5, 12\) and None; name",
        ),
        (nn.Identity(), r"got None and None; name a layer such as SymmetrizedReLU"),
    ],
)
def test_rejected_layers(network, message):
    with pytest.raises(ValueError, match=message):
        fit(FeatureDecouplingSSL(network), [schedule()])
    with pytest.raises(
        ValueError, match="Expected the path of a layer of FeatureDecouplingSSL, got 'backbone'"
    ):
        fit(module(), [BiasSchedule(["backbone"], start_step=0)])
