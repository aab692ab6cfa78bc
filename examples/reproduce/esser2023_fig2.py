"""Esser, Mukherjee, Ghoshdastidar 2023, figure 2 and Theorem 1: wide networks are almost linear, if phi allows it.

    python examples/reproduce/esser2023_fig2.py [--full]

|f^phi - f^lin| over the hidden width h, absolute and relative, at initialisation and during training under the
constraint, on half moons; averages and standard errors over initialisations. The text of the paper lost its learning
rate, epochs and widths: here 100 full-batch steps of 0.02, h = 2^8 ... 2^13. About two minutes on two cores.
"""

# %%
import argparse
from typing import Any

import torch
from torch import Tensor

from lightning_ssl_theory import OrthogonalSSL
from lightning_ssl_theory.data import HalfMoonsDataModule
from lightning_ssl_theory.report import Reproduction, Verdict

EXPONENTS = {  # of h: absolute and relative, from the design's Theorem 1
    "tanh": (-1.5, -1.0),
    "relu": (-0.5, 0.0),
    "sigmoid": (0.0, 0.5),
}
STEPS, LEARNING_RATE, NUM_OUTPUTS = 100, 0.02, 4


# %%
def moons() -> list[Tensor]:
    """One full batch: points and their noisy positives."""
    views, _ = next(iter(HalfMoonsDataModule(200, num_samples=200).train_dataloader()))
    return views


def build(activation: str, width: int, num_outputs: int, seed: int) -> OrthogonalSSL:
    """Equal seeds give equal weights, whatever the activation."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return OrthogonalSSL(2, width, num_outputs, activation, "polar", lr=LEARNING_RATE)


def distance(outputs: Tensor, linear: Tensor) -> tuple[float, float]:
    """Root mean square over points and outputs, absolute and relative."""
    absolute = (outputs - linear).square().mean().sqrt()
    return absolute.item(), (absolute / linear.square().mean().sqrt()).item()


def at_start(width: int, seeds: int) -> list[dict[str, Any]]:
    """Distances of random networks from the linear one with the same weights."""
    (x, _), rows = moons(), []
    for seed in range(seeds):
        with torch.no_grad():
            linear = build("identity", width, NUM_OUTPUTS, seed)(x)
            for activation in EXPONENTS:
                absolute, relative = distance(build(activation, width, NUM_OUTPUTS, seed)(x), linear)
                rows.append(
                    {
                        "activation": activation,
                        "h": width,
                        "seed": seed,
                        "absolute": absolute,
                        "relative": relative,
                    }
                )
    return rows


def trained_outputs(activation: str, width: int, seed: int, looks: list[int]) -> dict[int, Tensor]:
    """Two outputs after numbers of steps of contrastive training."""
    model, views = build(activation, width, 2, seed), moons()
    optimizer, found = model.configure_optimizers(), {}
    for step in range(max(looks) + 1):
        if step in looks:
            found[step] = model(views[0]).detach()
        optimizer.zero_grad()
        model.loss(*map(model, views)).backward()
        optimizer.step()
    return found


def in_training(widths: list[int], seeds: int, looks: list[int]) -> list[dict[str, Any]]:
    """The same distances while both are trained on their own."""
    rows = []
    for width in widths:
        for seed in range(seeds):
            linear = trained_outputs("identity", width, seed, looks)
            for activation in EXPONENTS:
                for step, outputs in trained_outputs(activation, width, seed, looks).items():
                    absolute, relative = distance(outputs, linear[step])
                    rows.append(
                        {"activation": activation, "h": width, "seed": seed, "step": step}
                        | {"absolute": absolute, "relative": relative}
                    )
    return rows


# %%
def average(rows: list[dict[str, Any]], kind: str, **where: Any) -> tuple[float, float]:
    """Mean and standard error of the rows that match."""
    values = torch.tensor([row[kind] for row in rows if all(row[k] == v for k, v in where.items())])
    return values.mean().item(), (values.std() / len(values) ** 0.5).item() if len(values) > 1 else 0.0


def slope(rows: list[dict[str, Any]], activation: str, kind: str) -> float:
    """Of log distance over log h, by least squares over the widths."""
    widths = sorted({row["h"] for row in rows})
    x = torch.tensor([float(h) for h in widths]).log()
    y = torch.tensor([average(rows, kind, activation=activation, h=h)[0] for h in widths]).log()
    x = x - x.mean()
    return ((x * y).sum() / x.square().sum()).item()


def draw(reproduction: Reproduction, start: list[dict[str, Any]], training: list[dict[str, Any]]) -> None:
    with reproduction.figure("fig2", num_rows=2, num_columns=2) as axes:
        widths = sorted({row["h"] for row in start})
        for axis, kind in zip(axes[:2], ("absolute", "relative"), strict=True):
            for activation in EXPONENTS:
                means, errors = zip(
                    *(average(start, kind, activation=activation, h=h) for h in widths), strict=True
                )
                axis.errorbar(widths, means, errors, label=activation, marker="o", markersize=3, capsize=2)
            axis.set(xscale="log", yscale="log", xlabel="hidden width h", title=f"at initialisation, {kind}")
            axis.set_xticks(widths, [str(h) for h in widths])
            axis.minorticks_off()
        axes[0].set_ylabel("distance to the linear network")
        axes[0].legend()
        steps, widths = (sorted({row[key] for row in training}) for key in ("step", "h"))
        for axis, activation in zip(axes[2:], ("tanh", "relu"), strict=True):
            for width in widths:
                means, errors = zip(
                    *(average(training, "relative", activation=activation, h=width, step=s) for s in steps),
                    strict=True,
                )
                axis.errorbar(steps, means, errors, label=f"h = {width}", marker="o", markersize=3, capsize=2)
            axis.set(yscale="log", xlabel="step", title=f"in training, {activation}, relative")
        axes[2].set_ylabel("distance to the linear network")
        axes[2].legend()


def judge(start: list[dict[str, Any]], training: list[dict[str, Any]]) -> list[Verdict]:
    verdicts = []
    for activation, expected in EXPONENTS.items():
        for kind, exponent in zip(("absolute", "relative"), expected, strict=True):
            found = slope(start, activation, kind)
            verdicts.append(
                Verdict(
                    f"{activation} at initialisation, {kind}: h^{exponent:g}",
                    "in words",
                    f"h^{found:.2f}",
                    abs(found - exponent) <= 0.15,
                )
            )
    widths, last = sorted({row["h"] for row in training}), max(row["step"] for row in training)
    for activation, holds_when in (("tanh", "falls"), ("relu", "falls"), ("sigmoid", "grows")):
        ends = [
            average(training, "absolute", activation=activation, h=h, step=last)[0]
            for h in (widths[0], widths[-1])
        ]
        claim = f"{activation} after training: the distance {holds_when} with h"
        here = f"{ends[0]:.3g} at h = {widths[0]}, {ends[1]:.3g} at {widths[-1]}"
        verdicts.append(Verdict(claim, "in words", here, (ends[1] < ends[0]) == (holds_when == "falls")))
    return verdicts


# %%
def main(
    *,
    full: bool = False,
    widths: list[int] | None = None,
    seeds: int = 10,
    start_seeds: int | None = None,
    output_dir: str = "runs/reproduce",
) -> list[Verdict]:
    """Measure, draw and judge."""
    widths = widths or [2**k for k in range(8, 14)]
    start = [row for h in widths for row in at_start(h, start_seeds or (100 if full else 30))]
    training = in_training(widths if full else widths[:-1:2], seeds, [0, STEPS // 4, STEPS // 2, STEPS])
    reproduction = Reproduction("esser2023_fig2", output_dir)
    reproduction.table("at_start", start)
    reproduction.table("in_training", training)
    draw(reproduction, start, training)
    verdicts = judge(start, training)
    reproduction.verdicts(verdicts)
    return verdicts


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all widths in training, more initialisations")
    parser.add_argument("--output-dir", default="runs/reproduce")
    arguments = parser.parse_args()
    main(full=arguments.full, output_dir=arguments.output_dir)
