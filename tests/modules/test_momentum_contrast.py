import copy
from functools import partial
from itertools import accumulate, pairwise

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.toy_ssl import QUIET
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader, IterableDataset

from lightning_ssl_theory import MomentumContrastSSL
from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    FeatureNormMonitor,
    NeuronSelectivity,
)
from lightning_ssl_theory.data import DigitsDataModule
from lightning_ssl_theory.losses import QueuedInfoNCELoss
from lightning_ssl_theory.networks import MLP

MOMENTUM, LR, QUEUE, COUNTS, STEPS = 0.8, 0.5, 12, (4, 2), 6


class Batches(IterableDataset):
    """The same batches of two views in every epoch: of all samples, or of one of several uneven shares."""

    def __init__(self, rows=slice(None), number=STEPS // 2):
        self.rows, self.number = rows, number

    def __iter__(self):
        for seed in range(self.number):
            generator = torch.Generator().manual_seed(seed)
            views = [torch.randn(sum(COUNTS), 6, generator=generator)[self.rows] for _ in range(2)]
            yield views, torch.zeros(len(views[0]), dtype=torch.long)


class Manual(MomentumContrastSSL):
    """The user's own loop."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()


def small_model(kind=MomentumContrastSSL, **options):
    torch.manual_seed(0)
    networks = MLP([6, 5, 4]), MLP([4, 4, 3])
    options = {
        "momentum": MOMENTUM,
        "queue_size": QUEUE,
        "optimizer": partial(torch.optim.SGD, lr=LR),
    } | options
    return kind(*networks, QueuedInfoNCELoss(0.5), **options)


def fit(model, data, epochs=2, callbacks=(), ckpt_path=None, **options):
    trainer = Trainer(
        **QUIET | {"max_epochs": epochs, "log_every_n_steps": 1} | options, callbacks=list(callbacks)
    )
    trainer.fit(model, DataLoader(data, batch_size=None), ckpt_path=ckpt_path)
    return trainer


def by_hand(model, *, symmetric=False):
    """Networks, targets and queue from a loop over the whole batches."""
    online = nn.ModuleList(copy.deepcopy([model.backbone, model.projector]))
    target, queue = copy.deepcopy(online), []
    for views, _ in [*Batches(), *Batches()]:
        keys = [normalize(target[1](target[0](view))).detach() for view in views]
        total, pairs = 0.0, [(0, 1), (1, 0)] if symmetric else [(0, 1)]
        for a, b in pairs:
            queries = normalize(online[1](online[0](views[a])))
            rows = [[q @ k, *[q @ other for other in queue]] for q, k in zip(queries, keys[b], strict=True)]
            logits = torch.stack([torch.stack(row) for row in rows]) / 0.5
            total = total + cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long)) / len(pairs)
        gradients = torch.autograd.grad(total, list(online.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(online.parameters(), gradients, strict=True):
                parameter -= LR * gradient
            for old, new in zip(target.parameters(), online.parameters(), strict=True):
                old.copy_(MOMENTUM * old + (1 - MOMENTUM) * new)
        for view in [0, 1] if symmetric else [1]:
            queue = [*queue, *keys[view]][-model.queue.size :]
    return online, target, torch.stack(queue)


def assert_same(model, expected):
    online, target, queue = expected
    torch.testing.assert_close(normalize(model.queue.keys), queue, rtol=1e-4, atol=1e-5)
    for found, one in zip([model.backbone, model.projector], online, strict=True):
        torch.testing.assert_close(found.state_dict(), one.state_dict(), rtol=1e-3, atol=1e-5)
    for found, one in zip([model.target_backbone, model.target_projector], target, strict=True):
        torch.testing.assert_close(found.state_dict(), one.state_dict(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("symmetric", "queue_size"), [(False, QUEUE), (True, 24)])
def test_step_by_step(symmetric, queue_size):
    model = small_model(symmetric=symmetric, queue_size=queue_size)
    expected = by_hand(model, symmetric=symmetric)
    trainer = fit(model, Batches())
    assert_same(model, expected)
    assert trainer.callback_metrics["train/loss"] > 0


def _on_rank(rank, world_size, folder):
    """Automatic and manual training, the first one through a checkpoint in its middle, on this rank's rows."""
    places = list(pairwise(accumulate(COUNTS, initial=0)))
    own, ddp = (
        Batches(slice(*places[rank])),
        {"strategy": "ddp", "devices": world_size, "enable_checkpointing": True},
    )
    kept = ModelCheckpoint(folder, filename="first", save_on_train_epoch_end=True)
    fit(small_model(), own, epochs=1, callbacks=[kept], **ddp)
    resumed, manual = small_model(), small_model(Manual)
    fit(resumed, own, ckpt_path=f"{folder}/first.ckpt", **ddp)
    fit(manual, own, **ddp | {"enable_checkpointing": False})
    return resumed.state_dict(), manual.state_dict()


@pytest.mark.ddp
def test_every_rank_holds_the_keys_of_all_ranks_in_order(tmp_path):
    expected = by_hand(small_model())
    for states in run_ranks(_on_rank, 2, str(tmp_path), init=False):
        for state in states:
            model = small_model()
            model.load_state_dict(state)
            assert_same(model, expected)
    alone = small_model()
    fit(alone, Batches(slice(0, COUNTS[0])))
    assert (normalize(alone.queue.keys) - expected[2]).abs().max() > 0.1


def test_resumed_training_is_the_uninterrupted_one(tmp_path):
    def train(**options):
        torch.manual_seed(0)
        model = MomentumContrastSSL(MLP([64, 5, 4]), MLP([4, 4, 3]), queue_size=512)
        checkpoint = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
        trainer = Trainer(**QUIET | {"enable_checkpointing": True}, max_steps=7, callbacks=[checkpoint])
        trainer.fit(model, DigitsDataModule(batch_size=256), **options)
        return model.state_dict()

    whole = train()
    resumed = train(ckpt_path=tmp_path / "step=3.ckpt")
    assert whole["queue._extra_state"].shape == (512, 3)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_a_smaller_last_batch_enters_as_it_is():
    model = small_model(queue_size=8, optimizer=partial(torch.optim.SGD, lr=0.0))
    data = [([torch.randn(rows, 6) for _ in range(2)], torch.zeros(rows)) for rows in (4, 4, 3)]
    keys = torch.cat([model.target(views[1]) for views, _ in data])
    trainer = Trainer(**QUIET | {"max_epochs": 1})
    trainer.fit(model, DataLoader(data, batch_size=None))
    torch.testing.assert_close(model.queue.keys, keys[-8:])


class ValidatedByItsStep(MomentumContrastSSL):
    """The loss of held-out batches, as many modules log it."""

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.training_step(batch, batch_idx))


@pytest.mark.filterwarnings("error:Expected an optimiser")
@pytest.mark.filterwarnings("ignore:You called `self.log\\('train/loss'")
def test_validation_by_the_training_step_changes_nothing():
    alone, validated = small_model(), small_model(ValidatedByItsStep)
    held_out = DataLoader(Batches(slice(3)), batch_size=None)
    fit(alone, Batches())
    trainer = Trainer(**QUIET | {"max_epochs": 2, "num_sanity_val_steps": 2})
    trainer.validate(validated, held_out, verbose=False)
    assert len(validated.queue.keys) == 0
    trainer.fit(validated, DataLoader(Batches(), batch_size=None), held_out)
    assert trainer.callback_metrics["val/loss"] > 0
    torch.testing.assert_close(validated.state_dict(), alone.state_dict(), rtol=0, atol=0)


def test_outputs_that_are_no_matrices_are_named():
    model = small_model()
    model.target_projector = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"Expected `keys` of shape \(N, E\), got \(4,\); pass a matrix"):
        model.training_step([torch.randn(4, 6)] * 2, 0)


def test_the_last_of_the_large_views_is_the_key():
    found = []

    def loss(queries, keys, queue):
        found.append((round(queries.mean().item()), round(keys.mean().item())))
        return queries.sum()

    class Noted(nn.Module):
        def forward(self, *args):
            return loss(*args)

    class Mean(nn.Linear):
        def forward(self, images):
            return images.mean((1, 2, 3))[:, None] + 0 * self.weight

    views = [torch.full((2, 1, size, size), float(value)) for value, size in ((1, 8), (2, 4), (3, 8), (4, 4))]
    for is_symmetric, pairs in (
        (False, [(1, 3), (2, 3), (4, 3)]),
        (True, [(1, 3), (2, 1), (2, 3), (3, 1), (4, 1), (4, 3)]),
    ):
        model = MomentumContrastSSL(Mean(1, 1), nn.Identity(), Noted(), queue_size=4, symmetric=is_symmetric)
        found.clear()
        fit(model, [(views, torch.arange(2))], epochs=1)
        assert found == pairs
        assert model.queue.keys.flatten().tolist() == ([1, 1, 3, 3] if is_symmetric else [3, 3])


def test_the_diagnostics_look_at_every_part():
    torch.manual_seed(0)
    layers = ["backbone", "target_backbone", "projector"]
    model = MomentumContrastSSL(MLP([64, 8, 6]), MLP([6, 6, 4]), queue_size=400)
    look = {"every_n_steps": 1}
    watching = [
        CovarianceOperators(["backbone.*", "projector.*"], num_probes=2, **look),
        NeuronSelectivity(layers, **look),
        FeatureNormMonitor(layers, **look),
        CollapseMonitor([*layers, "output"], **look),
    ]
    options = QUIET | {"max_steps": 1, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    Trainer(**options, callbacks=watching).fit(model, DigitsDataModule(batch_size=400))
    values = {key: value for one in watching for key, value in one.values.items()}
    assert all(values[f"collapse/{layer}/effective_rank"] >= 1 for layer in [*layers, "output"])
    assert all(values[f"feature_norms/{layer}/mean_norm"] > 0 for layer in layers)
    assert values["covariance/projector.linear_2/trace"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"momentum": -0.1},
            r"Expected `momentum` in \[0, 1\], got -0.1; it is the share of the target that stays",
        ),
        ({"momentum": 1.1}, r"Expected `momentum` in \[0, 1\], got 1.1"),
        ({"queue_size": 0}, "Expected `queue_size` of at least 1, got 0"),
        ({"symmetric": 1}, "Expected `symmetric` to be True or False, got 1"),
    ],
)
def test_rejects(options, message):
    with pytest.raises(ValueError, match=message):
        small_model(**options)


def test_a_queue_that_batches_do_not_fill():
    message = "Expected `queue_size` to be a multiple of the 6 keys of a step on all ranks, got 16; pass queue_size=18"
    with pytest.raises(ValueError, match=message):
        fit(small_model(queue_size=16), Batches())
