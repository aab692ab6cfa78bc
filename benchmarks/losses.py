"""Losses forward and backward, ours against plain torch and other libraries, in one run.

InfoNCE: the limit is that of two matrix products, S = Z Z^T of the 2B outputs and S Z, which must be made by whoever
computes all similarities and a gradient from them. Autograd needs three. What lies above it is the softmax, some five
passes over a 2B x 2B matrix.

Barlow Twins and VICReg: the limit are the products with D x D matrices, three for the cross-correlation, and two for
each of VICReg's covariances, since these are symmetric.

    python benchmarks/losses.py [infonce | squared | memory | barlow | vicreg | small ...]
"""

import importlib.util
import multiprocessing as mp
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightly.loss import BarlowTwinsLoss, NTXentLoss
from lightly.loss import VICRegLoss as LightlyVICRegLoss
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, normalize

from lightning_ssl_theory.losses import CrossCorrelationLoss, InfoNCELoss, VICRegLoss

TEMPERATURE, LAMB, EPS = 0.5, 5e-3, 1e-5
MEMORY_BATCH = 32_768

Loss = Callable[[Tensor, Tensor], Tensor]


def contrast(similarities: Tensor) -> Tensor:
    """Cross-entropy of the other view among all others, by the whole matrix."""
    itself = torch.eye(len(similarities), dtype=torch.bool)
    other_view = torch.arange(len(similarities)).roll(len(similarities) // 2)
    return cross_entropy(similarities.masked_fill(itself, -torch.inf), other_view)


def plain_nt_xent(z1: Tensor, z2: Tensor) -> Tensor:
    """NT-Xent as its textbook writes it."""
    z = normalize(torch.cat([z1, z2]), dim=1)
    return contrast(z @ z.mT / TEMPERATURE)


def plain_squared(z1: Tensor, z2: Tensor) -> Tensor:
    """InfoNCE on squared distances."""
    z = torch.cat([z1, z2])
    half_squares = z.square().sum(1) / 2
    return TEMPERATURE * contrast((z @ z.mT - half_squares - half_squares[:, None]) / TEMPERATURE)


def cdist_squared(z1: Tensor, z2: Tensor) -> Tensor:
    """The same by the function for distances."""
    z = torch.cat([z1, z2])
    return TEMPERATURE * contrast(-torch.cdist(z, z).square() / (2 * TEMPERATURE))


def metric_learning() -> dict[str, Loss]:
    """NT-Xent of pytorch-metric-learning, where it is installed."""
    if importlib.util.find_spec("pytorch_metric_learning") is None:
        return {}
    from pytorch_metric_learning.losses import NTXentLoss as MetricLearningLoss

    loss = MetricLearningLoss(temperature=TEMPERATURE)
    return {"metric-learning": lambda z1, z2: loss(torch.cat([z1, z2]), torch.arange(len(z1)).repeat(2))}


def plain_barlow(z1: Tensor, z2: Tensor) -> Tensor:
    """Barlow Twins from its formula."""
    z1, z2 = ((z - z.mean(0)) / (z.var(0, correction=0) + EPS).sqrt() for z in (z1, z2))
    c = z1.mT @ z2 / len(z1)
    on, squares = c.diagonal(), c.square()
    return (1 - on).square().sum() + LAMB * (squares.sum() - on.square().sum())


def solo_vicreg(z1: Tensor, z2: Tensor) -> Tensor:
    """VICReg with solo-learn's weights and terms: deviations apart from covariances, entries by a mask."""
    loss = 25 * mse_loss(z1, z2)
    deviations = [(z.var(0) + 1e-4).sqrt() for z in (z1, z2)]
    loss = loss + 25 * sum((1 - deviation).relu().mean() for deviation in deviations) / 2
    off = ~torch.eye(z1.shape[1], dtype=torch.bool)
    for z in (z1, z2):
        rows = z - z.mean(0)
        loss = loss + (rows.mT @ rows / (len(z) - 1))[off].square().sum() / z.shape[1]
    return loss


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
def two_products(z1: Tensor, z2: Tensor) -> None:
    """The two products alone."""
    z = torch.cat([z1, z2])
    _ = (z @ z.mT) @ z


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


def table(
    losses: dict[str, Loss], limit: Loss, batch_size: int, num_features: int, repeats: int, std: float = 1.0
) -> None:
    """Fastest of the calls made in turn, so that what else the machine does matters little."""
    z1, noise = std * torch.randn(2, batch_size, num_features, generator=torch.Generator().manual_seed(0))
    z2 = (z1 + noise).requires_grad_()
    z1.requires_grad_()
    calls = {name: lambda loss=loss: step(loss, z1, z2) for name, loss in losses.items()}
    calls["limit"] = lambda: limit(z1, z2)
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(repeats)]
    best = {name: min(times[name] for times in rounds) for name in calls}
    for name, duration in best.items():
        value = "" if name == "limit" else f"{losses[name](z1, z2).item():.5f}"
        ratios = f"{best['ours'] / duration:8.2f}{best['ours'] / best['limit'] if name == 'ours' else 0:8.2f}"
        print(f"{batch_size:6}{num_features:6} {name:16}{1e3 * duration:9.2f}{ratios}{value:>12}", flush=True)


def peak_growth(distance: str, answer: "mp.Queue[float]") -> None:
    """MiB that forward and backward hold at their peak above the inputs, in a process of its own."""
    torch.set_num_threads(1)
    step(InfoNCELoss(TEMPERATURE, distance=distance), *torch.randn(2, 512, 8, requires_grad=True).unbind())
    z1, z2 = (torch.randn(MEMORY_BATCH, 128, requires_grad=True) for _ in range(2))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    start = time.process_time()
    step(InfoNCELoss(TEMPERATURE, distance=distance), z1, z2)
    answer.put(((status("VmHWM") - before) / 2**10, time.process_time() - start))


def status(key: str) -> int:
    """KiB that this process holds."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(key))
    return int(line.split()[1])


def memory() -> None:
    """Peak memory of both forms at a large batch."""
    context = mp.get_context("spawn")
    for distance in ("cosine", "squared"):
        answer = context.Queue()
        process = context.Process(target=peak_growth, args=(distance, answer))
        process.start()
        mebibytes, duration = answer.get()
        process.join()
        print(
            f"{MEMORY_BATCH:6}   128 {distance:16}{duration:9.1f} s, at the peak {mebibytes:.0f} MiB above the inputs"
        )


def main() -> None:
    torch.set_num_threads(1)  # several threads wait for one another where the machine has other work
    chosen = sys.argv[1:] or ["infonce", "squared", "memory", "barlow", "vicreg"]
    print(f"float32, one thread, processor time, fastest of calls in turn; load {os.getloadavg()[0]:.1f}")
    print(f"{'B':>6}{'D':>6} {'':16}{'ms':>9}{'ours /':>8}{'ours/lim':>9}{'value':>11}")
    cosine: dict[str, Loss] = {
        "ours": InfoNCELoss(TEMPERATURE),
        "plain torch": plain_nt_xent,
        "lightly": NTXentLoss(temperature=TEMPERATURE),
        **metric_learning(),
    }
    squared: dict[str, Loss] = {
        "ours": InfoNCELoss(TEMPERATURE, distance="squared"),
        "plain torch": plain_squared,
        "plain, cdist": cdist_squared,
    }
    barlow: dict[str, Loss] = {
        "ours": CrossCorrelationLoss(LAMB, eps=EPS),
        "plain torch": plain_barlow,
        "lightly": BarlowTwinsLoss(lambda_param=LAMB),
    }
    vicreg: dict[str, Loss] = {
        "ours": VICRegLoss(),
        "plain torch": plain_vicreg,
        "solo-learn": solo_vicreg,
        "lightly": LightlyVICRegLoss(),
    }
    sizes = {
        "small": {16: 50, 64: 50, 128: 40},
        "infonce": {256: 30, 1024: 8, 4096: 2},
        "squared": {256: 30, 1024: 8, 4096: 2},
    }
    for name in chosen:
        print(name)
        for batch_size, repeats in sizes.get(name, {}).items():
            losses = dict(squared if name == "squared" else cosine)
            if batch_size > 128:  # it forms every pair of a positive and a negative, (2B)^3 numbers
                losses.pop("metric-learning", None)
            std = 0.25 if name == "squared" else 1.0  # half squared distances of 8: a loss that is not zero
            table(losses, two_products, batch_size, 128, repeats, std)
        if name == "memory":
            memory()
        if name == "barlow":
            table(barlow, barlow_products, 1024, 2048, 8)
        if name == "vicreg":
            table(vicreg, vicreg_products, 1024, 2048, 8)


if __name__ == "__main__":
    main()
