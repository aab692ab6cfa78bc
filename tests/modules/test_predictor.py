import copy
import math
from functools import partial

import pytest
import torch
from helpers.toy_ssl import QUIET
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn.functional import cosine_similarity
from torch.utils.data import DataLoader

from lightning_ssl_theory import PredictorSSL
from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    FeatureNormMonitor,
    LinearProbe,
    NeuronSelectivity,
)
from lightning_ssl_theory.data import DigitsDataModule
from lightning_ssl_theory.networks import MLP

LAYERS = ["backbone", "target_backbone", "projector", "predictor"]


def batches(number=4, num_views=2):
    generator = torch.Generator().manual_seed(3)
    return [
        ([torch.randn(5, 6, generator=generator) for _ in range(num_views)], torch.arange(5))
        for _ in range(number)
    ]


def small_model(kind=PredictorSSL, predictor=None, lr=0.2, **options):
    torch.manual_seed(0)
    networks = MLP([6, 5, 4]), MLP([4, 4, 3]), nn.Linear(3, 3) if predictor is None else predictor
    return kind(*networks, optimizer=partial(torch.optim.SGD, lr=lr), **options)


def fit(model, data, **options):
    trainer = Trainer(**QUIET | {"max_epochs": 1, "log_every_n_steps": 1} | options)
    trainer.fit(model, DataLoader(data, batch_size=None))
    return trainer


def by_hand(model, data, *, momenta=None, stop=True, lr=0.2, accumulate=1):
    """What a loop over the batches makes of the network, the target's weights averaged after each step."""
    online = nn.ModuleList(copy.deepcopy([model.backbone, model.projector, model.predictor]))
    target = nn.ModuleList(copy.deepcopy([model.backbone, model.projector]))
    losses = []
    for start in range(0, len(data), accumulate):
        total = 0.0
        for views, _ in data[start : start + accumulate]:
            source = online if momenta is None else target
            aims = [source[1](source[0](view)) for view in views]
            aims = [aim.detach() for aim in aims] if stop else aims
            guesses = [online[2](online[1](online[0](view))) for view in views]
            pairs = [(a, b) for a in range(len(views)) for b in range(len(views)) if a != b]
            value = sum(-cosine_similarity(guesses[a], aims[b]).mean() for a, b in pairs) / len(pairs)
            losses.append(float(value))
            total = total + value / accumulate
        parameters = list(online.parameters())
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0 if gradient is None else lr * gradient
            if momenta is not None:
                momentum = momenta[start // accumulate]
                for old, new in zip(target.parameters(), online[:2].parameters(), strict=True):
                    old.copy_(momentum * old + (1 - momentum) * new)
    return online, target, losses


def assert_same(modules, expected):
    for found, one in zip(modules, expected, strict=True):
        torch.testing.assert_close(found.state_dict(), one.state_dict(), rtol=1e-4, atol=1e-6)


def parts_of(model):
    return [model.backbone, model.projector, model.predictor]


@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("stop", [True, False])
def test_simsiam_step_by_step(stop, num_views):
    model, data = small_model(stop_gradient=stop), batches(num_views=num_views)
    expected, _, losses = by_hand(model, data, stop=stop)
    other, _, _ = by_hand(model, data, stop=not stop)
    trainer = fit(model, data)
    assert_same(parts_of(model), expected)
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(losses[-1], rel=1e-4)
    assert not torch.allclose(other[0].linear_1.weight, expected[0].linear_1.weight, rtol=1e-3)
    assert not hasattr(model, "target_backbone")


def test_byol_follows_once_a_step():
    model, data = small_model(ema=0.7), batches(6)
    expected, target, _ = by_hand(model, data, momenta=[0.7] * 3, accumulate=2)
    fit(model, data, accumulate_grad_batches=2)
    assert_same(parts_of(model), expected)
    assert_same([model.target_backbone, model.target_projector], target)


class Manual(PredictorSSL):
    """The user's own loop, with a step every second batch."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss / 2)
        if batch_idx % 2:
            self.optimizers().step()
            self.optimizers().zero_grad()


def test_manual_optimisation_is_the_same():
    model, data = small_model(Manual, ema=0.7), batches(6)
    expected, target, _ = by_hand(model, data, momenta=[0.7] * 3, accumulate=2)
    fit(model, data)
    assert_same(parts_of(model), expected)
    assert_same([model.target_backbone, model.target_projector], target)


class WithoutSuper(PredictorSSL):
    """Lightning's own hook of this name does nothing, so nobody calls it."""

    def on_train_start(self):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(parts_parameters(self), lr=0.2)


class OwnStep(WithoutSuper):
    """The step is another one, too."""

    def training_step(self, batch, batch_idx):
        (first, second), _ = batch
        pairs = ((first, second), (second, first))
        return sum(self.loss(self.embed(a), self.target(b)) for a, b in pairs) / 2


class TwoOptimizers(PredictorSSL):
    """The predictor has an optimiser of its own."""

    automatic_optimization = False

    def configure_optimizers(self):
        both = [self.backbone, self.projector], [self.predictor]
        return [torch.optim.SGD(nn.ModuleList(part).parameters(), lr=0.2) for part in both]

    def training_step(self, batch, batch_idx):
        self.manual_backward(super().training_step(batch, batch_idx))
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()


def parts_parameters(model):
    return nn.ModuleList(parts_of(model)).parameters()


@pytest.mark.parametrize("kind", [WithoutSuper, OwnStep])
def test_the_target_follows_though_a_subclass_overrides_the_hooks(kind):
    model = small_model(kind, ema=0.7)
    expected, target, _ = by_hand(model, batches(), momenta=[0.7] * 4)
    fit(model, batches())
    assert_same([*parts_of(model), model.target_backbone, model.target_projector], [*expected, *target])


def test_the_target_follows_in_a_loop_of_ones_own():
    model = small_model(ema=0.7)
    expected, target, _ = by_hand(model, batches(), momenta=[0.7] * 4)
    with pytest.warns(
        UserWarning, match="Expected an optimiser after whose steps the target of PredictorSSL moves"
    ):
        model.training_step(batches()[0], 0)
    optimizer = model.configure_optimizers()
    for index, batch in enumerate(batches()):
        optimizer.zero_grad()
        model.training_step(batch, index).backward()
        optimizer.step()
    assert_same([*parts_of(model), model.target_backbone, model.target_projector], [*expected, *target])
    model = small_model(ema=0.7, ema_schedule="cosine")
    optimizer = model.configure_optimizers()
    with pytest.raises(ValueError, match='ema_schedule="cosine", got none; pass max_epochs'):
        optimizer.step()


@pytest.mark.parametrize("length", [{"max_epochs": 1}, {"max_epochs": -1, "max_steps": 8}])
def test_the_momentum_rises_to_one_under_two_optimisers(length):
    share = (
        [step / 4 for step in range(4)] if "max_steps" not in length else [(2 * k + 1) / 8 for k in range(4)]
    )
    momenta = [1 - 0.5 * (math.cos(math.pi * one) + 1) / 2 for one in share]
    model = small_model(TwoOptimizers, ema=0.5, ema_schedule="cosine")
    expected, target, _ = by_hand(model, batches(), momenta=momenta)
    fit(model, batches(), **length)
    assert_same([*parts_of(model), model.target_backbone, model.target_projector], [*expected, *target])


def test_the_momentum_rises_to_one():
    momenta = [1 - 0.5 * (math.cos(math.pi * step / 4) + 1) / 2 for step in range(4)]
    model = small_model(ema=0.5, ema_schedule="cosine")
    expected, target, _ = by_hand(model, batches(), momenta=momenta)
    fit(model, batches())
    assert_same(parts_of(model), expected)
    assert_same([model.target_backbone, model.target_projector], target)
    with pytest.raises(
        ValueError, match='Expected a Trainer that knows the number of its steps for ema_schedule="cos'
    ):
        fit(small_model(ema=0.5, ema_schedule="cosine"), Endless(), max_epochs=-1)


class Endless(torch.utils.data.IterableDataset):
    """One batch, for ever."""

    def __iter__(self):
        while True:
            yield batches(1)[0]


def test_the_target_normalises_by_its_own_batches_and_keeps_its_own_statistics():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    model = PredictorSSL(
        backbone, nn.Identity(), nn.Linear(4, 4), ema=0.9, optimizer=partial(torch.optim.SGD, lr=0.0)
    )
    views = batches(1)[0][0]
    statistics = copy.deepcopy(backbone)
    fit(model, [(views, torch.arange(5))])
    for view in views:
        statistics(view)
    torch.testing.assert_close(dict(model.target_backbone.named_buffers()), dict(statistics.named_buffers()))
    model.train()
    found = model.target(views[0])
    assert not found.requires_grad
    torch.testing.assert_close(found.mean(0), torch.zeros(4), rtol=0, atol=1e-6)


class Noted(nn.Module):
    """Keeps the sizes of the views that it compares: those are what the network puts out."""

    def __init__(self):
        super().__init__()
        self.pairs = []

    def forward(self, predictions, targets):
        self.pairs.append((round(predictions.mean().item()), round(targets.mean().item())))
        return predictions.sum()


class Size(nn.Module):
    """Height of an image, times a weight of one."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.one * images.new_full((len(images), 1), images.shape[-1])


@pytest.mark.parametrize("ema", [None, 1.0])
def test_only_large_views_are_targets(ema):
    loss = Noted()
    model = PredictorSSL(
        Size(), nn.Identity(), nn.Identity(), loss, ema=ema, optimizer=partial(torch.optim.SGD, lr=0.0)
    )
    views = [torch.zeros(2, 3, size, size) for size in (8, 4, 8, 2)]
    fit(model, [(views, torch.arange(2))])
    assert loss.pairs == [(8, 8), (4, 8), (4, 8), (8, 8), (2, 8), (2, 8)]


@pytest.mark.parametrize("ema", [None, 0.9])
def test_resumed_training_is_the_uninterrupted_one(tmp_path, ema):
    def train(steps, **options):
        model = small_model(MLP_ON_DIGITS, ema=ema, lr=0.05)
        checkpoint = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
        trainer = Trainer(**QUIET | {"enable_checkpointing": True}, max_steps=steps, callbacks=[checkpoint])
        trainer.fit(model, DigitsDataModule(batch_size=256), **options)
        return model.state_dict()

    whole = train(7)
    resumed = train(7, ckpt_path=tmp_path / "step=3.ckpt")
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert any("target" in name for name in whole) == (ema is not None)


def MLP_ON_DIGITS(_, projector, predictor, **options):  # noqa: N802
    return PredictorSSL(MLP([64, 5, 4], batch_norm=True), projector, predictor, **options)


def test_the_diagnostics_look_at_every_part():
    torch.manual_seed(0)
    model = PredictorSSL(
        MLP([64, 8, 6], batch_norm=True), MLP([6, 6, 4], batch_norm=True), MLP([4, 5, 4]), ema=0.9
    )
    look = {"every_n_steps": 1}
    watching = [
        CovarianceOperators(["backbone.*", "projector.*", "predictor.*"], num_probes=2, **look),
        NeuronSelectivity(LAYERS, **look),
        FeatureNormMonitor(LAYERS, **look),
        CollapseMonitor([*LAYERS, "output"], **look),
        LinearProbe("backbone", **look),
        LinearProbe("target_backbone", name="target", **look),
    ]
    options = QUIET | {"max_steps": 1, "num_sanity_val_steps": 0, "limit_val_batches": 1}
    Trainer(**options, callbacks=watching).fit(model, DigitsDataModule(batch_size=400))
    values = {key: value for one in watching for key, value in one.values.items()}
    for layer in LAYERS:
        assert values[f"collapse/{layer}/effective_rank"] >= 1
        assert f"selectivity/{layer}/selective_share" in values
        assert values[f"feature_norms/{layer}/mean_norm"] > 0
    assert values["covariance/predictor.linear_2/trace"] > 0
    assert values["covariance/backbone.linear_1/trace"] > 0
    assert {"probe/backbone/ridge_top1", "probe/target/target_backbone/ridge_top1"} <= set(values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema": 1.5}, r"Expected `ema` in \[0, 1\], got 1.5; it is the share of the target that stays"),
        ({"ema": 0.9, "stop_gradient": False}, "Expected `stop_gradient` True with `ema`, got False"),
        ({"ema_schedule": "cosine"}, 'Expected `ema_schedule` "constant" without `ema`, got "cosine"'),
        ({"ema_schedule": "linear"}, "Expected `ema_schedule` to be one of constant, cosine, got 'linear'"),
    ],
)
def test_rejects(options, message):
    with pytest.raises(ValueError, match=message):
        small_model(**options)


def test_a_predictor_is_needed():
    with pytest.raises(
        ValueError, match=r"Expected `predictor` to be of type Module, got None; .* nn.Identity\(\)"
    ):
        PredictorSSL(nn.Identity(), nn.Identity(), None)
