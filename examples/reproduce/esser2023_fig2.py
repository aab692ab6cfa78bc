"""Esser, Mukherjee, Ghoshdastidar 2023, figure 2 and Theorem 1: wide networks are almost linear, if phi allows it.

    python examples/reproduce/esser2023_fig2.py [--full]

|f^phi - f^lin| over the hidden width h, absolute and relative, at initialisation and during training under the
constraint, on half moons; averages and standard errors over initialisations. The text of the paper lost its learning
rate, epochs and widths: here 100 full-batch steps of 0.02, h = 2^8 ... 2^13. About two minutes on two cores.
"""

# %%
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from lightning_ssl_theory import OrthogonalSSL
from lightning_ssl_theory.data import HalfMoonsDataModule
from lightning_ssl_theory.report import (
    Reproduction,
    Verdict,
    full_batch_steps,
    mean_verdict,
    plot_means,
    run_script,
    run_trials,
    seeded,
    values_of,
)

EXPONENTS = {  # of h: absolute and relative, from the design's Theorem 1
    "tanh": (-1.5, -1.0),
    "relu": (-0.5, 0.0),
    "sigmoid": (0.0, 0.5),
}
STEPS, LEARNING_RATE, NUM_OUTPUTS, TOLERANCE = 100, 0.02, 4, 0.15
LOOKS = (0, STEPS // 4, STEPS // 2, STEPS)

Rows = list[dict[str, Any]]


# %%
def moons() -> list[Tensor]:
    """One full batch: points and their noisy positives."""
    views, _ = next(iter(HalfMoonsDataModule(200, num_samples=200).train_dataloader()))
    return views


def build(activation: str, width: int, num_outputs: int, seed: int) -> OrthogonalSSL:
    """Equal seeds give equal weights, whatever the activation."""
    with seeded(seed):
        return OrthogonalSSL(2, width, num_outputs, activation, "polar", lr=LEARNING_RATE)


def distance(outputs: Tensor, linear: Tensor) -> dict[str, float]:
    """Root mean square over points and outputs, absolute and relative."""
    absolute = (outputs - linear).square().mean().sqrt()
    return {"absolute": absolute.item(), "relative": (absolute / linear.square().mean().sqrt()).item()}


@torch.no_grad()
def at_start(width: int, seed: int) -> Rows:
    """Distances of random networks from the linear one with the same weights."""
    x, _ = moons()
    linear = build("identity", width, NUM_OUTPUTS, seed)(x)
    return [
        {"activation": name, "h": width, "seed": seed}
        | distance(build(name, width, NUM_OUTPUTS, seed)(x), linear)
        for name in EXPONENTS
    ]


def trained_outputs(activation: str, width: int, seed: int) -> dict[int, Tensor]:
    """Two outputs after numbers of steps of contrastive training."""
    model, views = build(activation, width, 2, seed), moons()
    steps = full_batch_steps(model, views, STEPS)
    return {step: model(views[0]).detach() for step in steps if step in LOOKS}


def in_training(width: int, seed: int) -> Rows:
    """The same distances while both are trained on their own."""
    linear = trained_outputs("identity", width, seed)
    return [
        {"activation": name, "h": width, "seed": seed, "step": step} | distance(outputs, linear[step])
        for name in EXPONENTS
        for step, outputs in trained_outputs(name, width, seed).items()
    ]


# %%
def slopes(rows: Rows, kind: str, **where: Any) -> list[float]:
    """Of log distance over log h, by least squares over the widths, for each seed."""
    widths = sorted({row["h"] for row in rows})
    by_width = [values_of(rows, kind, h=h, **where) for h in widths]
    x, y = torch.tensor(widths).double().log(), torch.tensor(by_width).double().log()
    x = x - x.mean()
    return (x @ y / x.square().sum()).tolist()


def draw(found: Reproduction, start: Rows, training: Rows) -> None:
    with found.figure("fig2", num_rows=2, num_columns=2) as axes:
        widths = sorted({row["h"] for row in start})
        for axis, kind in zip(axes[:2], ("absolute", "relative"), strict=True):
            for activation in EXPONENTS:
                distances = [values_of(start, kind, activation=activation, h=h) for h in widths]
                plot_means(axis, widths, distances, label=activation)
            axis.set(xscale="log", yscale="log", xlabel="hidden width h", title=f"at initialisation, {kind}")
            axis.set_xticks(widths, [str(h) for h in widths])
            axis.minorticks_off()
        for axis, activation in zip(axes[2:], ("tanh", "relu"), strict=True):
            for h in sorted({row["h"] for row in training}):
                where = {"activation": activation, "h": h}
                distances = [values_of(training, "relative", step=step, **where) for step in LOOKS]
                plot_means(axis, LOOKS, distances, label=f"h = {h}")
            axis.set(xlabel="step", title=f"in training, {activation}, relative")
            axis.set_yscale("log" if activation == "tanh" else "linear")
        for axis in axes[::2]:
            axis.set_ylabel("distance to the linear network")
            axis.legend()


def judge(start: Rows, training: Rows) -> list[Verdict]:
    at_first = [
        mean_verdict(
            f"{activation} at initialisation, {kind}: h^{exponent:g}",
            slopes(start, kind, activation=activation),
            above=exponent - TOLERANCE,
            below=exponent + TOLERANCE,
            note="exponent of h",
        )
        for activation, exponents in EXPONENTS.items()
        for kind, exponent in zip(("absolute", "relative"), exponents, strict=True)
    ]
    trained = [
        mean_verdict(
            f"{activation} after training: the distance {change} with h",
            slopes(training, "absolute", activation=activation, step=STEPS),
            **{bound: 0.0},
            note="exponent of h",
        )
        for activation, change, bound in (
            ("tanh", "falls", "below"),
            ("relu", "falls", "below"),
            ("sigmoid", "grows", "above"),
        )
    ]
    return at_first + trained


# %%
def main(
    *,
    full: bool = False,
    widths: list[int] | None = None,
    seeds: int = 10,
    start_seeds: int | None = None,
    num_processes: int | None = None,
    output_dir: str = "runs/reproduce",
) -> list[Verdict]:
    """Measure, draw and judge."""
    widths = widths or [2**k for k in range(8, 14)]
    starts = range(start_seeds or (100 if full else 30))
    start = [row for h in widths for seed in starts for row in at_start(h, seed)]
    trials = [(h, seed) for h in (widths if full else widths[:-1:2]) for seed in range(seeds)]
    training = list(chain.from_iterable(run_trials(in_training, trials, num_processes=num_processes)))
    found = Reproduction("esser2023_fig2", output_dir)
    found.table("at_start", start)
    found.table("in_training", training)
    draw(found, start, training)
    return found.verdicts(judge(start, training))


# %%
if __name__ == "__main__":
    run_script(
        main,
        full="all widths in training, more initialisations",
        seeds="number of initialisations in training",
    )
