"""NT-Xent forward and backward, ours against plain torch and lightly, in one run.

The limit is three matrix products, which an implementation by autograd needs: the similarities S = Z Z^T / tau
of the 2B outputs, and two with dL/dS in the backward pass. What lies above it is the softmax, some five passes
over a 2B x 2B matrix. (The products could be two: dL/dS + (dL/dS)^T first, at the price of another pass.)

    python benchmarks/losses.py
"""

import time
from collections.abc import Callable

import torch
from lightly.loss import NTXentLoss
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lightning_ssl_theory.losses import InfoNCELoss

TEMPERATURE, NUM_FEATURES, REPEATS = 0.5, 128, 20

Loss = Callable[[Tensor, Tensor], Tensor]


def plain_torch(z1: Tensor, z2: Tensor) -> Tensor:
    """NT-Xent as its textbook writes it."""
    z = normalize(torch.cat([z1, z2]), dim=1)
    similarities = (z @ z.mT / TEMPERATURE).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return cross_entropy(similarities, torch.arange(len(z)).roll(len(z1)))


def step(loss: Loss, z1: Tensor, z2: Tensor) -> None:
    """Forward and backward."""
    torch.autograd.grad(loss(z1, z2), (z1, z2))


@torch.no_grad()
def matrix_products(z1: Tensor, z2: Tensor) -> None:
    """The three products alone."""
    z = torch.cat([z1, z2])
    similarities = z @ z.mT
    _ = similarities @ z, similarities.mT @ z


def seconds(function: Callable[[], None]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def table(batch_size: int) -> None:
    """Fastest of the calls made in turn, so that what else the machine does matters little."""
    z1, noise = torch.randn(2, batch_size, NUM_FEATURES, generator=torch.Generator().manual_seed(0))
    z2 = (z1 + noise).requires_grad_()
    z1.requires_grad_()
    losses: dict[str, Loss] = {
        "ours": InfoNCELoss(TEMPERATURE),
        "plain torch": plain_torch,
        "lightly": NTXentLoss(temperature=TEMPERATURE),
    }
    calls = {name: lambda loss=loss: step(loss, z1, z2) for name, loss in losses.items()}
    calls["limit"] = lambda: matrix_products(z1, z2)
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(REPEATS)]
    best = {name: min(times[name] for times in rounds) for name in calls}
    for name, duration in best.items():
        value = "" if name == "limit" else f"{losses[name](z1, z2).item():.6f}"
        print(f"{batch_size:5} {name:12} {1e3 * duration:8.2f} {duration / best['ours']:8.2f} {value:>10}")


def main() -> None:
    torch.set_num_threads(1)  # several threads wait for one another where the machine has other work
    print(f"NT-Xent, D = {NUM_FEATURES}, float32, one thread, fastest of {REPEATS} calls in turn")
    print(f"{'B':>5} {'':12} {'ms':>8} {'/ ours':>8} {'value':>10}")
    for batch_size in (256, 1024):
        table(batch_size)


if __name__ == "__main__":
    main()
