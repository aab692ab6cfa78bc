"""OrthogonalSSL's constraint on any backbone: its own steps in its own setting, and under losses and optimizers of others."""

import copy
import functools
import warnings

import pytest
import torch
from helpers.toy_ssl import QUIET
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.testing import assert_close

from lightning_ssl_theory import ContrastiveSSL, OrthogonalSSL
from lightning_ssl_theory.callbacks import CovarianceOperators, OrthogonalityMonitor
from lightning_ssl_theory.data import DigitsDataModule
from lightning_ssl_theory.losses import CrossCorrelationLoss, InfoNCELoss, TraceLoss
from lightning_ssl_theory.manifolds import orthogonality_drift
from lightning_ssl_theory.networks import OrthogonalProjector, SmallConvNet

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        ".*isinstance.treespec",
        ".*does not have many workers",
        "Checkpoint directory",
        ".*never looks",
        "You defined a `validation_step`",
    )
]
CONSTRAINTS = ["grassmann", "stiefel", "polar", "parametrization"]
ADAM = functools.partial(torch.optim.Adam, lr=0.003)


def module(constraint="stiefel", *, loss=None, optimizer=ADAM) -> ContrastiveSSL:
    torch.manual_seed(0)
    projector = OrthogonalProjector(16, 32, 8, constraint, activation="relu")
    return ContrastiveSSL(
        SmallConvNet(1, [8, 16]), projector, InfoNCELoss() if loss is None else loss, optimizer=optimizer
    )


def fit(model, **arguments) -> Trainer:
    usual = QUIET | {"max_steps": 4, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    trainer = Trainer(**usual | arguments)
    trainer.fit(model, DigitsDataModule(batch_size=64))
    return trainer


def drift(projector) -> float:
    return max(
        orthogonality_drift(one.weight.detach()).item() for one in (projector.hidden, projector.output)
    )


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_plain_descent_on_the_trace_loss_takes_the_steps_of_orthogonal_ssl(constraint):
    projector = OrthogonalProjector(64, 96, 4, constraint)
    theirs = OrthogonalSSL(64, 96, 4, constraint=constraint, lr=0.02)
    for name in ("hidden", "output"):
        if constraint == "parametrization":
            getattr(projector, name).weight = getattr(theirs.network, name).weight.detach()
        else:
            getattr(projector, name).load_state_dict(getattr(theirs.network, name).state_dict())
    start = projector.product().detach()
    optimizer = functools.partial(torch.optim.SGD, lr=0.02)
    ours = ContrastiveSSL(nn.Identity(), projector, TraceLoss(), optimizer=optimizer)
    for model in (ours, theirs):
        fit(model, max_steps=20)
    assert_close(projector.product(), theirs.network.product(), rtol=0, atol=2e-5)
    assert (projector.product() - start).norm() > 0.1


LOSSES = {"info-nce": InfoNCELoss, "barlow": CrossCorrelationLoss}


RUNS = [("stiefel", 30, "info-nce"), ("parametrization", 30, "info-nce")]
LONG = [(constraint, 500, name) for constraint in CONSTRAINTS for name in LOSSES]


@pytest.mark.parametrize(
    ("constraint", "steps", "loss"), RUNS + [pytest.param(*one, marks=pytest.mark.all_cases) for one in LONG]
)
def test_a_convolutional_backbone_is_watched_and_does_not_drift(constraint, steps, loss):
    model = module(constraint, loss=LOSSES[loss]())
    start = model.projector.product().detach()
    layers = ["projector.hidden", "projector.output"]
    callbacks = [OrthogonalityMonitor(layers, every_n_steps=steps // 2, strict=True)]
    if constraint != "parametrization":
        callbacks.append(CovarianceOperators(layers, num_probes=2, every_n_steps=steps // 2, strict=True))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Expected an orthonormal")
        trainer = fit(model, max_steps=steps, max_epochs=-1, callbacks=callbacks)
    logged = trainer.callback_metrics
    for layer in layers:
        assert logged[f"orthogonality/{layer}/drift"] <= 1e-5
        assert (f"covariance/{layer}/trace" in logged) == (constraint != "parametrization")
    assert drift(model.projector) <= 1e-5
    assert (model.projector.product() - start).norm() > 0.05


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
@pytest.mark.parametrize("constraint", ["stiefel", "parametrization"])
def test_precisions_and_accumulation(constraint, precision):
    model = module(constraint)
    fit(model, precision=precision, accumulate_grad_batches=2, gradient_clip_val=1.0)
    assert drift(model.projector) <= 1e-5


@pytest.mark.parametrize("constraint", ["stiefel", "parametrization"])
def test_half_precision_weights_are_refused(constraint):
    with pytest.raises(ValueError, match="Expected constrained parameters of dtype float32 or float64"):
        fit(module(constraint), precision="bf16-true")


def test_a_run_resumed_from_its_checkpoint_is_the_whole_one(tmp_path):
    whole, resumed = module(), module()
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
    fit(whole, max_steps=6, callbacks=[saver], enable_checkpointing=True)
    trainer = Trainer(**QUIET, max_steps=6, limit_val_batches=0)
    trainer.fit(resumed, DigitsDataModule(batch_size=64), ckpt_path=tmp_path / "step=3.ckpt")
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("constraint", ["stiefel", "parametrization"])
def test_moving_averages(constraint):
    model = module(constraint)
    average = AveragedModel(model.projector, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    fit(model, max_steps=20)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Expected an orthonormal")
        average.update_parameters(model.projector)  # takes the first as it is
        fit(model, max_steps=20)
        average.update_parameters(model.projector)
        with torch.no_grad():
            average(torch.ones(2, 16))
    # an average of rotated matrices is shorter; of the parameters of a parametrisation it is orthonormal
    assert (drift(average.module) > 1e-4) == (constraint == "stiefel")


def test_without_a_line_in_a_module_of_ones_own_training_says_so():
    projector = OrthogonalProjector(4, 6, 2)
    twin = copy.deepcopy(projector)
    optimizer = torch.optim.SGD(twin.parameters(), 0.5)
    twin(torch.ones(3, 4)).square().sum().backward()
    optimizer.step()
    with pytest.warns(UserWarning, match=r"call keep_orthonormal\(optimizer, module\) where the optimizer"):
        twin(torch.ones(3, 4))
    assert drift(projector) < 1e-6


def test_rejects():
    with pytest.raises(
        ValueError, match="Expected `constraint` to be one of grassmann, stiefel, polar, para"
    ):
        OrthogonalProjector(4, 6, 2, "none")
    with pytest.raises(ValueError, match="Expected `hidden_features` >= `in_features` = 4, got 3"):
        OrthogonalProjector(4, 3, 2)
