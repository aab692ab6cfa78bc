"""Backbones whose outputs, or inputs, are no tensors: one sentence, unless what follows takes them."""

from collections import namedtuple

import pytest
import torch
from torch import nn

from lightning_ssl_theory import ContrastiveSSL, MomentumContrastSSL, PredictorSSL, PretextSSL
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.modules.in_turn import in_turn
from lightning_ssl_theory.networks import MLP, OrthogonalProjector

Output = namedtuple("Output", ["last_hidden_state", "pooler_output"])


class WithOutputs(nn.Linear):
    """Puts out several tensors, as many models of other libraries do."""

    def forward(self, inputs):
        return Output(inputs[:, None], super().forward(inputs))


class Pooled(nn.Linear):
    """Knows what it follows."""

    def forward(self, outputs):
        return super().forward(outputs.pooler_output)


def systems(backbone, projector):
    yield ContrastiveSSL(backbone, projector, InfoNCELoss())
    yield PredictorSSL(backbone, projector, nn.Identity())
    yield PredictorSSL(backbone, projector, nn.Identity(), ema=0.9)
    yield MomentumContrastSSL(backbone, projector, queue_size=8)
    yield PretextSSL(backbone, projector, pretext="target")


BATCH = {"views": [torch.randn(4, 6), torch.randn(4, 6)], "pretext": torch.randn(4, 4)}


@pytest.mark.parametrize("head", [nn.Linear(3, 4), MLP([3, 4]), OrthogonalProjector(3, 5, 4)])
def test_an_output_that_is_no_tensor_is_named(head):
    sentence = (
        r"Expected `(projector|head)` to take what `backbone` puts out, a Output of 2 "
        r"\(a tensor \(4, 1, 6\), a tensor \(4, 3\)\), got \w+Error: .*; wrap `backbone` in a module that "
        r"returns one tensor\."
    )
    for module in systems(WithOutputs(6, 3), head):
        with pytest.raises(ValueError, match=sentence):
            module.training_step(BATCH, 0)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.filterwarnings("ignore:Expected an optimiser")
def test_a_head_that_takes_it_is_left_alone():
    for module in systems(WithOutputs(6, 3), Pooled(3, 4)):
        assert module.training_step(BATCH, 0).isfinite()


def test_dictionaries_that_a_backbone_does_not_take():
    views = [{"input_ids": torch.zeros(4, 6), "attention_mask": torch.ones(4, 6)}] * 2
    sentence = (
        r"Expected `backbone` to take what a batch holds, a dictionary with keys \['attention_mask', 'input_ids'\], got "
        r"TypeError: .*; wrap it in a module that does\."
    )
    with pytest.raises(ValueError, match=sentence):
        ContrastiveSSL(nn.Linear(6, 3), nn.Linear(3, 4), InfoNCELoss()).training_step(views, 0)


def test_errors_on_tensors_are_the_networks_own():
    class Broken(nn.Module):
        def forward(self, inputs):
            return inputs.no_such_thing

    with pytest.raises(AttributeError, match=r"^'Tensor' object has no attribute 'no_such_thing'$"):
        in_turn(torch.zeros(2, 3), backbone=Broken())
