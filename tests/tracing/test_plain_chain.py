"""What is a plain chain and what is not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_ssl_theory.networks import MLP, ResNet, SmallConvNet
from lightning_ssl_theory.tracing.plain_chain import plain_chain


class Encoder(nn.Module):
    def __init__(self, step=None):
        super().__init__()
        self.backbone, self.projector, self.step = SmallConvNet(1, [4, 6]), MLP([6, 5, 3]), step

    def forward(self, images):
        features = self.backbone(images)
        return self.projector(features if self.step is None else self.step(features))


IMAGES = torch.zeros(2, 1, 8, 8)


def names(model, layer=""):
    chain = plain_chain(model, IMAGES, layer)
    modules = {module: name for name, module in model.named_modules()}
    return None if chain is None else [modules[module] for module in chain]


def test_modules_in_their_order_up_to_a_layer():
    backbone = ["conv_1", "activation_1", "pool_1", "conv_2", "activation_2", "global_pool", "flatten"]
    backbone = [f"backbone.{name}" for name in backbone]
    projector = [f"projector.{name}" for name in ("flatten", "linear_1", "activation_1", "linear_2")]
    assert names(Encoder()) == backbone + projector
    assert names(Encoder(), "backbone") == backbone
    assert names(Encoder(), "backbone.conv_1") == backbone[:1]
    assert names(Encoder(), "projector.linear_1") == backbone + projector[:2]


@pytest.mark.parametrize(
    "step", [F.relu, lambda x: x + 1, lambda x: 3 * x, lambda x: x.mul_(2), lambda x: x[:, :6] * 1]
)
def test_a_function_between_modules_makes_none(step):
    assert names(Encoder(step)) is None
    assert names(Encoder(step), "backbone") is not None


def test_reshaping_and_steps_in_place_are_links():
    assert names(Encoder(lambda x: x.view(2, 6))) is not None
    assert names(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten())) == ["0", "1", "2"]


def test_residual_networks_and_layers_out_of_reach():
    assert plain_chain(ResNet("resnet18"), torch.zeros(2, 3, 32, 32)) is None
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    model.unused = nn.Linear(2, 2)
    model.forward = lambda x: model[1](model[0](x))
    assert plain_chain(model, IMAGES, "unused") is None
    assert names(model) == ["0", "1"]
