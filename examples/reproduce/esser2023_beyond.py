r"""Beyond Esser, Mukherjee, Ghoshdastidar 2023: which ODE does projected training follow?

    python examples/reproduce/esser2023_beyond.py [--full]

The paper derives the Grassmann flow and trains by plain steps W - lr G, projected back to W^T W = I. The polar
projection of W - lr G is W - lr (G - W sym(W^T G)) + O(lr^2): it takes away the part of G that changes W^T W and keeps
the rotation of the columns that the Grassmann tangent (I - W W^T) G leaves out. So it follows the Stiefel flow. The
sign-fixed QR of a plain step keeps another part, which depends on the basis of the inputs:
W' = -(I - W W^T) G - W (low(W^T G) - low(W^T G)^T). Here all are measured, over the step, in ten seconds.
"""

# %%
import math
from collections.abc import Callable
from itertools import chain
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
from lightning_ssl_theory.report import (
    Reproduction,
    Verdict,
    mean_verdict,
    plot_means,
    run_script,
    run_trials,
    values_of,
)

Step = Callable[[Tensor, Tensor, float], Tensor]
Rows = list[dict[str, Any]]
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


def distances(seed: int, counts: list[int]) -> Rows:
    """Frobenius distances of every way of stepping from every flow."""
    weights = start(seed)
    q0, time = weights[1].mT @ weights[0], torch.tensor([TIME])
    ends = {name: flow(q0, EIGENVALUES, time)[0] for name, flow in FLOWS.items()} | {"QR": qr_flow(weights)}
    rows = []
    for method, step in STEPS.items():
        for count in counts:
            found = descend(step, weights, count)
            gaps = {name: (found - end).norm().item() for name, end in ends.items()}
            rows.append({"seed": seed, "method": method, "lr": TIME / count} | gaps)
    return rows


def basis_changes(seed: int, count: int) -> Rows:
    """How far q ends from where it does when the inputs are written in another basis: 0 for a geometric method."""
    hidden, output = start(seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    turn = qr_retraction(torch.randn(C.shape, generator=generator, dtype=torch.float64))
    rows = []
    for method, step in STEPS.items():
        turned = descend(step, (hidden @ turn, output), count, turn.mT @ C @ turn)
        change = (descend(step, (hidden, output), count) - turned @ turn.mT).norm().item()
        rows.append({"seed": seed, "method": method, "change": change})
    return rows


def measure(seed: int, counts: list[int]) -> tuple[Rows, Rows]:
    return distances(seed, counts), basis_changes(seed, counts[-1])


# %%
def draw(found: Reproduction, rows: Rows) -> None:
    rates = sorted({row["lr"] for row in rows})
    with found.figure("distances", num_columns=3) as axes:
        for axis, method in zip(axes, ("plain, polar", "plain, QR", "Grassmann tangent, QR"), strict=True):
            for flow in ("Grassmann", "Stiefel", "canonical", "QR"):
                values = [values_of(rows, flow, method=method, lr=lr) for lr in rates]
                plot_means(axis, rates, values, label=flow)
            axis.set(xscale="log", yscale="log", xlabel="learning rate", title=method)
        axes[0].set_ylabel(f"distance from each flow at t = {TIME}")
        axes[0].legend(title="flow")


def judge(rows: Rows, changes: Rows) -> list[Verdict]:
    fine, coarse = sorted({row["lr"] for row in rows})[:2]
    verdicts = []
    for method, own in OWN.items():
        near, far = (values_of(rows, own, method=method, lr=lr) for lr in (fine, coarse))
        others = [values_of(rows, flow, method=method, lr=fine) for flow in (*FLOWS, "QR") if flow != own]
        next_flow = min(sum(values) / len(values) for values in others)
        verdicts.append(
            mean_verdict(
                f"{method}: follows the {own} flow, at first order",
                [math.log(b / a) / math.log(coarse / fine) for a, b in zip(near, far, strict=True)],
                above=0.9,
                below=1.1,
                paper="not in the paper",
                note=f"exponent of lr; distance {sum(near) / len(near):.1e}, from the next flow {next_flow:.1e}",
            )
        )
    for method in STEPS:
        is_qr = method == "plain, QR"
        verdicts.append(
            mean_verdict(
                f"{method}: the path {'depends' if is_qr else 'does not depend'} on the basis of the inputs",
                values_of(changes, "change", method=method),
                **{"above" if is_qr else "below": 1e-2},
                paper="not in the paper",
                note="change of the end in another basis",
            )
        )
    return verdicts


# %%
def main(
    *,
    full: bool = False,
    seeds: int | None = None,
    counts: list[int] | None = None,
    num_processes: int | None = None,
    output_dir: str = "runs/reproduce",
) -> list[Verdict]:
    """Measure, draw and judge."""
    counts = counts or [25, 50, 100, 200, 400]
    trials = [(seed, counts) for seed in range(seeds or (20 if full else 6))]
    measured = run_trials(measure, trials, num_processes=num_processes, description="stepping")
    rows, changes = (list(chain.from_iterable(tables)) for tables in zip(*measured, strict=True))
    found = Reproduction("esser2023_beyond", output_dir)
    found.table("distances", rows)
    found.table("basis_changes", changes)
    draw(found, rows)
    return found.verdicts(judge(rows, changes))


# %%
if __name__ == "__main__":
    run_script(main, full="20 initialisations", seeds="number of initialisations")
