"""Losses forward and backward, ours against plain torch and lightly, in one run.

NT-Xent: the limit is three matrix products, which an implementation by autograd needs: the similarities
S = Z Z^T / tau of the 2B outputs, and two with dL/dS in the backward pass. What lies above it is the softmax, some
five passes over a 2B x 2B matrix. (The products could be two: dL/dS + (dL/dS)^T first, at the price of another pass.)

Barlow Twins and VICReg: the limit are the products with D x D matrices, three for the cross-correlation, and two for
each of VICReg's covariances, since these are symmetric.

    python benchmarks/losses.py
"""

import os
import time
from collections.abc import Callable

import torch
from lightly.loss import BarlowTwinsLoss, NTXentLoss
from lightly.loss import VICRegLoss as LightlyVICRegLoss
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, normalize

from lightning_ssl_theory.losses import CrossCorrelationLoss, InfoNCELoss, VICRegLoss

TEMPERATURE, LAMB, EPS, REPEATS = 0.5, 5e-3, 1e-5, 20

Loss = Callable[[Tensor, Tensor], Tensor]


def plain_nt_xent(z1: Tensor, z2: Tensor) -> Tensor:
    """NT-Xent as its textbook writes it."""
    z = normalize(torch.cat([z1, z2]), dim=1)
    similarities = (z @ z.mT / TEMPERATURE).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return cross_entropy(similarities, torch.arange(len(z)).roll(len(z1)))


def plain_barlow(z1: Tensor, z2: Tensor) -> Tensor:
    """Barlow Twins from its formula."""
    z1, z2 = ((z - z.mean(0)) / (z.var(0, correction=0) + EPS).sqrt() for z in (z1, z2))
    c = z1.mT @ z2 / len(z1)
    on, squares = c.diagonal(), c.square()
    return (1 - on).square().sum() + LAMB * (squares.sum() - on.square().sum())


def plain_vicreg(z1: Tensor, z2: Tensor) -> Tensor:
    """VICReg from its formula."""
    loss = 25 * mse_loss(z1, z2)
    for z in (z1, z2):
        rows = z - z.mean(0)
        covariance = rows.mT @ rows / (len(z) - 1)
        variance = covariance.diagonal()
        hinge = (1 - (variance + 1e-4).sqrt()).relu().mean()
        loss = loss + 25 * hinge / 2 + (covariance.square().sum() - variance.square().sum()) / z.shape[1]
    return loss


def step(loss: Loss, z1: Tensor, z2: Tensor) -> None:
    """Forward and backward."""
    torch.autograd.grad(loss(z1, z2), (z1, z2))


@torch.no_grad()
def nt_xent_products(z1: Tensor, z2: Tensor) -> None:
    """The three products alone."""
    z = torch.cat([z1, z2])
    similarities = z @ z.mT
    _ = similarities @ z, similarities.mT @ z


@torch.no_grad()
def barlow_products(z1: Tensor, z2: Tensor) -> None:
    """The three products alone."""
    c = z1.mT @ z2
    _ = z2 @ c.mT, z1 @ c


@torch.no_grad()
def vicreg_products(z1: Tensor, z2: Tensor) -> None:
    """The four products alone."""
    _ = [z @ (z.mT @ z) for z in (z1, z2)]


def seconds(function: Callable[[], None]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def table(losses: dict[str, Loss], limit: Loss, batch_size: int, num_features: int) -> None:
    """Fastest of the calls made in turn, so that what else the machine does matters little."""
    z1, noise = torch.randn(2, batch_size, num_features, generator=torch.Generator().manual_seed(0))
    z2 = (z1 + noise).requires_grad_()
    z1.requires_grad_()
    calls = {name: lambda loss=loss: step(loss, z1, z2) for name, loss in losses.items()}
    calls["limit"] = lambda: limit(z1, z2)
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(REPEATS)]
    best = {name: min(times[name] for times in rounds) for name in calls}
    for name, duration in best.items():
        value = "" if name == "limit" else f"{losses[name](z1, z2).item():.5f}"
        print(
            f"{batch_size:6}{num_features:6} {name:12}{1e3 * duration:9.2f}{duration / best['ours']:8.2f}{value:>12}"
        )


def main() -> None:
    torch.set_num_threads(1)  # several threads wait for one another where the machine has other work
    print(
        f"float32, one thread, processor time, fastest of {REPEATS} calls in turn; load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'B':>6}{'D':>6} {'':12}{'ms':>9}{'/ ours':>8}{'value':>12}")
    print("NT-Xent")
    nt_xent: dict[str, Loss] = {
        "ours": InfoNCELoss(TEMPERATURE),
        "plain torch": plain_nt_xent,
        "lightly": NTXentLoss(temperature=TEMPERATURE),
    }
    for batch_size in (256, 1024):
        table(nt_xent, nt_xent_products, batch_size, 128)
    print("Barlow Twins")
    barlow: dict[str, Loss] = {
        "ours": CrossCorrelationLoss(LAMB, eps=EPS),
        "plain torch": plain_barlow,
        "lightly": BarlowTwinsLoss(lambda_param=LAMB),
    }
    table(barlow, barlow_products, 1024, 2048)
    print("VICReg")
    vicreg: dict[str, Loss] = {
        "ours": VICRegLoss(),
        "plain torch": plain_vicreg,
        "lightly": LightlyVICRegLoss(),
    }
    table(vicreg, vicreg_products, 1024, 2048)


if __name__ == "__main__":
    main()
