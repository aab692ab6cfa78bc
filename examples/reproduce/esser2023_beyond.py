r"""Beyond Esser, Mukherjee, Ghoshdastidar 2023: which ODE does projected training follow?

    python examples/reproduce/esser2023_beyond.py [--full]

The paper derives the Grassmann flow and trains by plain steps W - lr G, projected back to W^T W = I. The polar
projection of W - lr G is W - lr (G - W sym(W^T G)) + O(lr^2): it takes away the part of G that changes W^T W and keeps
the rotation of the columns that the Grassmann tangent (I - W W^T) G leaves out. So it follows the Stiefel flow. The
sign-fixed QR of a plain step keeps another part, which depends on the basis of the inputs:
W' = -(I - W W^T) G - W (low(W^T G) - low(W^T G)^T). Here all are measured, over the step. Half a minute.
"""

# %%
import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_ssl_theory.flows import canonical_flow, grassmann_flow, stiefel_flow
from lightning_ssl_theory.manifolds import (
    canonical_tangent,
    grassmann_tangent,
    polar_retraction,
    qr_retraction,
    stiefel_tangent,
)
from lightning_ssl_theory.report import Reproduction, Verdict

Step = Callable[[Tensor, Tensor, float], Tensor]
TIME, HIDDEN, NUM_OUTPUTS = 0.4, 9, 3
EIGENVALUES = torch.tensor([-1.3, -0.6, -0.2, 0.4, 0.9, 1.7], dtype=torch.float64)
C = EIGENVALUES.diag()
STEPS: dict[str, Step] = {
    "plain, polar": lambda w, g, lr: polar_retraction(w - lr * g),
    "plain, QR": lambda w, g, lr: qr_retraction(w - lr * g),
    "Stiefel tangent, QR": lambda w, g, lr: qr_retraction(w - lr * stiefel_tangent(w, g)),
    "Grassmann tangent, QR": lambda w, g, lr: qr_retraction(w - lr * grassmann_tangent(w, g)),
    "canonical tangent, QR": lambda w, g, lr: qr_retraction(w - lr * canonical_tangent(w, g)),
}
FLOWS = {"Grassmann": grassmann_flow, "Stiefel": stiefel_flow, "canonical": canonical_flow}
OWN = {
    "plain, polar": "Stiefel",
    "plain, QR": "QR",
    "Stiefel tangent, QR": "Stiefel",
    "Grassmann tangent, QR": "Grassmann",
    "canonical tangent, QR": "canonical",
}


# %%
def start(seed: int) -> tuple[Tensor, Tensor]:
    """W_1 (h, d) and W_2 (h, z), uniformly random, in the eigenbasis of C."""
    generator = torch.Generator().manual_seed(seed)
    draws = (
        torch.randn(HIDDEN, n, generator=generator, dtype=torch.float64)
        for n in (len(EIGENVALUES), NUM_OUTPUTS)
    )
    hidden, output = (qr_retraction(draw) for draw in draws)
    return hidden, output


def gradients(hidden: Tensor, output: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Of Tr(W_2^T W_1 C W_1^T W_2)."""
    product = output.mT @ hidden
    return 2 * output @ product @ matrix, 2 * hidden @ matrix @ product.mT


def descend(step: Step, weights: tuple[Tensor, Tensor], num_steps: int, matrix: Tensor = C) -> Tensor:
    """Outputs q = W_2^T W_1 after steps of TIME / num_steps."""
    hidden, output = weights
    for _ in range(num_steps):
        to_hidden, to_output = gradients(hidden, output, matrix)
        hidden, output = (step(w, g, TIME / num_steps) for w, g in ((hidden, to_hidden), (output, to_output)))
    return output.mT @ hidden


def qr_velocity(weight: Tensor, gradient: Tensor) -> Tensor:
    """What plain steps with QR tend to: minus (I - W W^T) G, minus W (low - low^T) of W^T G."""
    low = (weight.mT @ gradient).tril(-1)
    return -grassmann_tangent(weight, gradient) - weight @ (low - low.mT)


def qr_flow(weights: tuple[Tensor, Tensor], num_steps: int = 100) -> Tensor:
    """Its solution, by the classical Runge-Kutta method on the weights."""
    hidden, output = weights
    h = TIME / num_steps

    def velocity(state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        first, second = (qr_velocity(w, g) for w, g in zip(state, gradients(*state, C), strict=True))
        return first, second

    def moved(by: tuple[Tensor, Tensor], length: float) -> tuple[Tensor, Tensor]:
        return hidden + length * by[0], output + length * by[1]

    for _ in range(num_steps):
        k1 = velocity((hidden, output))
        k2 = velocity(moved(k1, h / 2))
        k3 = velocity(moved(k2, h / 2))
        k4 = velocity(moved(k3, h))
        slopes = [(a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)]
        hidden, output = hidden + h * slopes[0], output + h * slopes[1]
    return output.mT @ hidden


def measure(seeds: int, counts: list[int]) -> list[dict[str, Any]]:
    """Frobenius distances of every way of stepping from every flow."""
    rows = []
    for seed in range(seeds):
        weights = start(seed)
        q0, time = weights[1].mT @ weights[0], torch.tensor([TIME])
        ends = {name: flow(q0, EIGENVALUES, time)[0] for name, flow in FLOWS.items()} | {
            "QR": qr_flow(weights)
        }
        for method, step in STEPS.items():
            for count in counts:
                found = descend(step, weights, count)
                gaps = {name: (found - end).norm().item() for name, end in ends.items()}
                rows.append({"seed": seed, "method": method, "lr": TIME / count} | gaps)
    return rows


def basis_dependence(seeds: int, count: int) -> dict[str, float]:
    """How far q ends from where it does when the inputs are written in another basis: 0 for a geometric method."""
    found = {}
    for method, step in STEPS.items():
        changes = []
        for seed in range(seeds):
            hidden, output = start(seed)
            generator = torch.Generator().manual_seed(1000 + seed)
            turn = qr_retraction(torch.randn(C.shape, generator=generator, dtype=torch.float64))
            turned = descend(step, (hidden @ turn, output), count, turn.mT @ C @ turn)
            changes.append((descend(step, (hidden, output), count) - turned @ turn.mT).norm().item())
        found[method] = sum(changes) / len(changes)
    return found


# %%
def mean(rows: list[dict[str, Any]], method: str, flow: str, lr: float) -> float:
    """Over initialisations."""
    values = [row[flow] for row in rows if row["method"] == method and row["lr"] == lr]
    return sum(values) / len(values)


def draw(reproduction: Reproduction, rows: list[dict[str, Any]]) -> None:
    rates = sorted({row["lr"] for row in rows})
    with reproduction.figure("distances", num_columns=3) as axes:
        for axis, method in zip(axes, ("plain, polar", "plain, QR", "Grassmann tangent, QR"), strict=True):
            for flow in ("Grassmann", "Stiefel", "canonical", "QR"):
                values = [mean(rows, method, flow, lr) for lr in rates]
                axis.plot(rates, values, marker="o", markersize=3, label=flow)
            axis.set(xscale="log", yscale="log", xlabel="learning rate", title=method)
        axes[0].set_ylabel(f"distance from each flow at t = {TIME}")
        axes[0].legend(title="flow")


def judge(rows: list[dict[str, Any]], dependence: dict[str, float]) -> list[Verdict]:
    fine, coarse = sorted({row["lr"] for row in rows})[:2]
    verdicts = []
    for method, own in OWN.items():
        near = mean(rows, method, own, fine)
        order = mean(rows, method, own, coarse) / near / (coarse / fine)
        far = min(mean(rows, method, flow, fine) for flow in (*FLOWS, "QR") if flow != own)
        here = f"distance {near:.1e} (times {order:.2f} per lr), next flow {far:.1e}"
        holds = near < far / 5 and 0.9 < order < 1.1
        verdicts.append(
            Verdict(f"{method}: follows the {own} flow, at first order", "not in the paper", here, holds)
        )
    for method, change in dependence.items():
        is_qr = method == "plain, QR"
        claim = f"{method}: the path {'depends' if is_qr else 'does not depend'} on the basis of the inputs"
        verdicts.append(Verdict(claim, "not in the paper", f"change {change:.1e}", (change > 1e-2) == is_qr))
    return verdicts


# %%
def main(
    *,
    full: bool = False,
    seeds: int | None = None,
    counts: list[int] | None = None,
    output_dir: str = "runs/reproduce",
) -> list[Verdict]:
    """Measure, draw and judge."""
    seeds, counts = seeds or (20 if full else 4), counts or [25, 50, 100, 200, 400]
    rows = measure(seeds, counts)
    dependence = basis_dependence(seeds, counts[-1])
    reproduction = Reproduction("esser2023_beyond", output_dir)
    reproduction.table("distances", rows)
    draw(reproduction, rows)
    verdicts = judge(rows, dependence)
    reproduction.verdicts(verdicts)
    return verdicts


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="20 initialisations")
    parser.add_argument("--output-dir", default="runs/reproduce")
    arguments = parser.parse_args()
    main(full=arguments.full, output_dir=arguments.output_dir)
