"""A look holds no more than its budget and what a training step on the same images holds.

What comes on top of the budget are a copy of the parameters and, for 4 probes and a loss, 7 weight gradients; so the
networks here, as those that are trained, have more activations than weights.
"""

import pytest
import torch
from helpers.peak_memory import CAN_MEASURE, peak_bytes
from torch import nn

from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.networks import SmallConvNet
from lightning_ssl_theory.operators import covariance_scalars

BUDGETS = {"vit": 2**25, "convnet": 2**24}


class SmallViT(nn.Module):
    """32 x 32 images in 64 tokens, four blocks of width 192: 1.8 million weights."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 192, 4, stride=4)
        block = nn.TransformerEncoderLayer(192, 3, 768, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 4, enable_nested_tensor=False)
        self.head = nn.Linear(192, 64)

    def forward(self, x):
        return self.head(self.blocks(self.patches(x).flatten(2).mT).mean(1))


def convnet():
    return nn.Sequential(SmallConvNet(3, [32, 64, 64]), nn.Linear(64, 64))


def images(num_samples):
    """Views of samples that differ in brightness: where all are alike, a look in float64 follows."""
    return torch.randn(num_samples, 2, 3, 32, 32) + 2 * torch.randn(num_samples, 1, 3, 1, 1)


def look(model, num_samples, small, budget):
    torch.set_num_threads(1)
    views = images(num_samples)
    covariance_scalars(small, views[:2], num_probes=2, loss=InfoNCELoss())  # what libraries set up once
    return lambda: covariance_scalars(model, views, loss=InfoNCELoss(), memory_budget=budget)


def step(model, num_samples, small):
    torch.set_num_threads(1)
    views = images(num_samples)

    def train(model, views):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        outputs = model(views.flatten(0, 1)).unflatten(0, (-1, 2))
        InfoNCELoss()(outputs[:, 0], outputs[:, 1]).backward()
        optimizer.step()

    train(small, views[:2])
    return lambda: train(model, views)


def tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.Flatten(), nn.Linear(256, 8))


def look_at_vit():
    return look(SmallViT(), 12, tiny(), BUDGETS["vit"])


def step_of_vit():
    return step(SmallViT(), 12, tiny())


def look_at_convnet():
    return look(convnet(), 32, tiny(), BUDGETS["convnet"])


def step_of_convnet():
    return step(convnet(), 32, tiny())


def nothing():
    return lambda: None


def one_tensor():
    torch.ones(2**15).sum()
    return lambda: torch.ones(2**24).sum()


needs_the_kernel = pytest.mark.skipif(
    not CAN_MEASURE, reason="the kernel does not tell the peak of a process"
)


@needs_the_kernel
def test_the_measure_by_hand():
    assert peak_bytes(nothing) < 2**20
    assert abs(peak_bytes(one_tensor) - 2**26) < 2**22


@needs_the_kernel
@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "at_most", "of_training"),
    [(BUDGETS["vit"], look_at_vit, step_of_vit), (BUDGETS["convnet"], look_at_convnet, step_of_convnet)],
    ids=["vit", "convnet"],
)
def test_a_look_holds_its_budget_and_a_training_step(budget, at_most, of_training):
    held, training = peak_bytes(at_most), peak_bytes(of_training)
    assert training > budget  # else chunks would not be needed
    assert held <= budget + training, (held / 2**20, training / 2**20)
