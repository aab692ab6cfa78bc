"""Esser, Mukherjee, Ghoshdastidar 2023, figure 3: the reduced ODE against training, loss and outputs.

    python examples/reproduce/esser2023_fig3.py [--full]

Networks of several widths are trained on half moons by plain steps and projection, as the paper has it, and by steps
on the Grassmann manifold; the ODEs know only C and the outputs at the start. The text of the paper lost learning rate,
widths and z: here lr = 0.005, h = 10, 100, 1000, z = 1. About two minutes on two cores.
"""

# %%
import argparse
from typing import Any

import torch
from torch import Tensor

from lightning_ssl_theory import OrthogonalSSL
from lightning_ssl_theory.data import HalfMoonsDataModule
from lightning_ssl_theory.flows import (
    discrete_flow,
    eigenbasis,
    flow_loss,
    flow_outputs,
    grassmann_flow,
    limit_point,
    stiefel_flow,
    trace_matrix,
)
from lightning_ssl_theory.report import Reproduction, Verdict

LEARNING_RATE, STEPS, WIDTHS = 0.005, 1000, (10, 100, 1000)
FLOWS = {"Grassmann ODE": grassmann_flow, "Stiefel ODE": stiefel_flow}
TRAININGS = {"plain step + projection": "polar", "Grassmann step": "grassmann"}


# %%
def data() -> tuple[list[Tensor], Tensor]:
    """One full batch, points and positives, and held-out points."""
    moons = HalfMoonsDataModule(200, num_samples=200)
    views, _ = next(iter(moons.train_dataloader()))
    return views, next(iter(moons.val_dataloader()))[0]


def train(constraint: str, width: int, seed: int, views: list[Tensor], steps: int, activation: str) -> Tensor:
    """W_2^T W_1 after every step, (steps + 1, 1, 2)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = OrthogonalSSL(2, width, 1, activation, constraint, lr=LEARNING_RATE)  # type: ignore[arg-type]
    optimizer, path = model.configure_optimizers(), []
    for step in range(steps + 1):
        path.append(model.network.product().detach().double())
        if step < steps:
            optimizer.zero_grad()
            model.loss(*map(model, views)).backward()
            optimizer.step()
    return torch.stack(path)


def compare(
    seeds: int, steps: int, widths: tuple[int, ...]
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Distances at the end of training and on the way, and the paths of the first seeds."""
    views, new = data()
    basis = eigenbasis(trace_matrix(*views, views[0].roll(-1, 0)))
    times, rows, paths = LEARNING_RATE * torch.arange(steps + 1), [], {}
    for width in widths:
        for seed in range(seeds):
            trained = {
                name: train(constraint, width, seed, views, steps, "identity") @ basis.eigenvectors
                for name, constraint in TRAININGS.items()
            }
            trained["tanh, projected"] = (
                train("polar", width, seed, views, steps, "tanh") @ basis.eigenvectors
            )
            start = trained["Grassmann step"][0]
            solved = {name: flow(start, basis.eigenvalues, times) for name, flow in FLOWS.items()}
            solved["update (12)"] = discrete_flow(start, basis.eigenvalues, lr=LEARNING_RATE, num_steps=steps)
            end = limit_point(start, basis.eigenvalues)
            for method, found in trained.items():
                for name, expected in solved.items():
                    outputs = [flow_outputs(q, basis.eigenvectors, new) for q in (found, expected)]
                    gaps = (outputs[0] - outputs[1]).norm(dim=(-2, -1)) / outputs[1].norm(dim=(-2, -1)).max()
                    numbers = {
                        "largest_distance": gaps.max().item(),
                        "last_distance": gaps[-1].item(),
                        "distance_to_limit": (found[-1] - end).norm().item(),
                        "training_decay_time": decay_time(flow_loss(found, basis.eigenvalues)),
                        "ode_decay_time": decay_time(flow_loss(expected, basis.eigenvalues)),
                    }
                    rows.append({"h": width, "seed": seed, "training": method, "ode": name} | numbers)
            paths |= {f"{name}|{width}|{seed}": q for name, q in (trained | solved).items()}
    paths |= {"eigenvalues": basis.eigenvalues, "eigenvectors": basis.eigenvectors}
    return rows, paths


def decay_time(losses: Tensor) -> float:
    """Time at which 99 % of the way from the first to the least loss is done."""
    goal = losses[0] + 0.99 * (losses.min() - losses[0])
    return LEARNING_RATE * (losses <= goal).double().argmax().item()


# %%
def draw(reproduction: Reproduction, paths: dict[str, Tensor], widths: tuple[int, ...], seeds: int) -> None:
    _, new = data()
    styles = {"plain step + projection": "-", "Stiefel ODE": ":", "Grassmann ODE": "--"}
    with reproduction.figure("fig3", num_columns=2) as (left, right):
        for colour, width in enumerate(widths):
            for name, style in styles.items():
                losses = flow_loss(paths[f"{name}|{width}|0"], paths["eigenvalues"])
                left.plot(LEARNING_RATE * torch.arange(len(losses)), losses, style, color=f"C{colour}")
            left.plot([], [], color=f"C{colour}", label=f"h = {width}")
        left.set(xlabel="t", title="loss, first initialisation")
        width = widths[0]
        for seed in range(min(seeds, 4)):
            for name, style in styles.items():
                q = paths[f"{name}|{width}|{seed}"]
                outputs = flow_outputs(q, paths["eigenvectors"], new[:1])[:, 0, 0]
                right.plot(LEARNING_RATE * torch.arange(len(q)), outputs, style, color=f"C{seed}")
        right.set(xlabel="t", title=f"output at a new point, h = {width}")
        for axis in (left, right):
            for name, style in styles.items():
                axis.plot([], [], style, color="0.3", label=name)
            axis.legend(fontsize=8)


def judge(rows: list[dict[str, Any]]) -> list[Verdict]:
    def mean(key: str, training: str, ode: str) -> float:
        values = [row[key] for row in rows if (row["training"], row["ode"]) == (training, ode)]
        return sum(values) / len(values)

    polar, own = "plain step + projection", "Grassmann step"
    last = max(
        row["last_distance"] for row in rows if (row["training"], row["ode"]) == (polar, "Grassmann ODE")
    )
    times = [
        mean("ode_decay_time", polar, "Grassmann ODE"),
        mean("training_decay_time", polar, "Grassmann ODE"),
        mean("ode_decay_time", polar, "Stiefel ODE"),
    ]
    near, far = (mean("largest_distance", polar, f"{name} ODE") for name in ("Stiefel", "Grassmann"))
    exact, tanh = (
        mean("largest_distance", own, "Grassmann ODE"),
        mean("last_distance", "tanh, projected", "Stiefel ODE"),
    )
    return [
        Verdict(
            "training and ODE end at the same outputs",
            "in words",
            f"largest relative distance at the end {last:.1e}",
            last < 0.05,
        ),
        Verdict(
            "the loss decays slightly slower in the (Grassmann) ODE than in training",
            "in words",
            f"99 % after t = {times[0]:.2f}, training {times[1]:.2f}, Stiefel ODE {times[2]:.2f}",
            times[0] > times[1],
        ),
        Verdict(
            "because projected training follows the Stiefel ODE",
            "not in the paper",
            f"largest distance {near:.3f}, from the Grassmann ODE {far:.3f}",
            near < far / 2,
        ),
        Verdict(
            "Grassmann steps follow the Grassmann ODE",
            "in words",
            f"largest distance {exact:.3f}",
            exact < 0.05,
        ),
        Verdict("tanh networks end where the ODE does", "in words", f"last distance {tanh:.3f}", tanh < 0.1),
    ]


# %%
def main(
    *,
    full: bool = False,
    seeds: int | None = None,
    steps: int = STEPS,
    widths: tuple[int, ...] = WIDTHS,
    output_dir: str = "runs/reproduce",
) -> list[Verdict]:
    """Train, solve, draw and judge."""
    seeds = seeds or (20 if full else 4)
    rows, paths = compare(seeds, steps, widths)
    reproduction = Reproduction("esser2023_fig3", output_dir)
    reproduction.table("distances", rows)
    draw(reproduction, paths, widths, seeds)
    verdicts = judge(rows)
    reproduction.verdicts(verdicts)
    return verdicts


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="20 initialisations")
    parser.add_argument("--output-dir", default="runs/reproduce")
    arguments = parser.parse_args()
    main(full=arguments.full, output_dir=arguments.output_dir)
