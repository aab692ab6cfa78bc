from functools import partial

import pytest
import torch
from torch import nn

from lightning_ssl_theory import (
    ContrastiveSSL,
    FeatureDecouplingSSL,
    MomentumContrastSSL,
    PredictorSSL,
    PretextSSL,
)
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.modules.optimization import Optimization, parameter_groups


class Scaled(nn.Module):
    """A kind of layer that nobody knows: a matrix, a vector and a number."""

    def __init__(self):
        super().__init__()
        self.matrix, self.gain, self.tau = (nn.Parameter(torch.ones(s)) for s in ((2, 2), (2,), ()))


def network():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.LayerNorm([2, 6, 6]),
        nn.Flatten(),
        nn.Linear(72, 2),
        Scaled(),
    )


def names(module, group):
    found = {id(parameter): name for name, parameter in module.named_parameters()}
    return [found[id(parameter)] for parameter in group["params"]]


def test_by_default_everything_decays():
    model = network()
    assert [id(p) for p in parameter_groups(model)] == [id(p) for p in model.parameters()]


def test_norms_and_biases_are_exempt():
    model = network()
    decayed, exempt = parameter_groups(model, decay_norms_and_biases=False)
    assert names(model, decayed) == ["0.weight", "4.weight", "5.matrix"]
    assert names(model, exempt) == [
        "0.bias", "1.weight", "1.bias", "2.weight", "2.bias", "4.bias", "5.gain", "5.tau",
    ]  # fmt: skip
    optimizer = torch.optim.SGD([decayed, exempt], lr=0.1, weight_decay=0.5)
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    left = {name: parameter.detach().unique().tolist() for name, parameter in model.named_parameters()}
    assert {name for name, values in left.items() if values == [1.0]} == set(names(model, exempt))
    assert left["0.weight"] == [pytest.approx(0.95)]


def test_shared_once_frozen_not_at_all():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.LayerNorm(3))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    for one, groups in ((True, [parameter_groups(model)]), (False, None)):
        listed = groups or [g["params"] for g in parameter_groups(model, decay_norms_and_biases=one)]
        assert sorted(id(p) for group in listed for p in group) == sorted(
            id(p) for p in model.parameters() if p.requires_grad
        )
    only_vectors = nn.LayerNorm(3)
    (group,) = parameter_groups(only_vectors, decay_norms_and_biases=False)
    assert group["weight_decay"] == 0


def test_nothing_to_train_and_flattened_weights_are_refused():
    assert len(parameter_groups(nn.LazyLinear(2))) == 2
    with pytest.raises(
        ValueError, match="Expected parameters with shapes for decay_norms_and_biases=False, got a"
    ):
        parameter_groups(nn.LazyLinear(2), decay_norms_and_biases=False)
    with pytest.raises(ValueError, match="Expected a parameter to train, got only frozen ones"):
        parameter_groups(nn.Linear(2, 2).requires_grad_(False))
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].weight = nn.Parameter(model[0].weight.detach().flatten())
    with pytest.raises(
        ValueError, match=r"Expected `0.weight` in its own shape, got \(4,\), flattened as by FSDP"
    ):
        parameter_groups(model, decay_norms_and_biases=False)


SGD = partial(torch.optim.SGD, lr=0.1, weight_decay=0.5)
MODULES = {
    "contrastive": lambda **options: ContrastiveSSL(
        nn.Linear(4, 3), nn.LayerNorm(3), InfoNCELoss(), **options
    ),
    "predictor": lambda **options: PredictorSSL(
        nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 3), ema=0.9, **options
    ),
    "momentum contrast": lambda **options: MomentumContrastSSL(nn.Linear(4, 3), nn.LayerNorm(3), **options),
    "pretext": lambda **options: PretextSSL(nn.Linear(4, 3), nn.LayerNorm(3), **options),
}


@pytest.mark.parametrize("build", MODULES.values(), ids=MODULES)
def test_every_module_has_the_choice(build):
    (everything,) = build(optimizer=SGD).configure_optimizers().param_groups
    decayed, exempt = build(optimizer=SGD, decay_norms_and_biases=False).configure_optimizers().param_groups
    assert everything["weight_decay"] == decayed["weight_decay"] == 0.5
    assert exempt["weight_decay"] == 0
    assert len(everything["params"]) == len(decayed["params"]) + len(exempt["params"])
    with pytest.raises(ValueError, match="Expected `decay_norms_and_biases` to be True or False, got 1"):
        build(decay_norms_and_biases=1)


def test_frozen_parameters_are_left_to_whoever_thaws_them():
    module = FeatureDecouplingSSL(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3)))
    module.network[0].requires_grad_(False)
    (group,) = module.configure_optimizers().param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in module.network[1].parameters()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": 3}, "Expected `optimizer` to be a function, got 3"),
        ({"optimizer": SGD, "scheduler": "cosine"}, "Expected `scheduler` to be a function, got 'cosine'"),
        (
            {"optimizer": SGD, "scheduler_interval": "day"},
            "Expected `scheduler_interval` to be one of epoch, step",
        ),
    ],
)
def test_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        Optimization(**arguments)
