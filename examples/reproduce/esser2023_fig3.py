"""Esser, Mukherjee, Ghoshdastidar 2023, figure 3: the reduced ODE against training, loss and outputs.

    python examples/reproduce/esser2023_fig3.py [--full]

Networks of several widths are trained on half moons by plain steps and projection, as the paper has it, and by steps
on the Grassmann manifold; the ODEs know only C and the outputs at the start. The text of the paper lost learning rate,
widths and z: here lr = 0.005, h = 10, 100, 1000, z = 1. About two minutes on two cores.
"""

# %%
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from lightning_ssl_theory import OrthogonalSSL
from lightning_ssl_theory.data import HalfMoonsDataModule
from lightning_ssl_theory.flows import (
    Eigenbasis,
    discrete_flow,
    eigenbasis,
    flow_loss,
    flow_outputs,
    grassmann_flow,
    limit_point,
    stiefel_flow,
    trace_matrix,
)
from lightning_ssl_theory.report import (
    Reproduction,
    Verdict,
    full_batch_steps,
    mean_verdict,
    run_script,
    run_trials,
    seed_values,
    seeded,
)

LEARNING_RATE, STEPS, WIDTHS = 0.005, 1000, (10, 100, 1000)
FLOWS = {"Grassmann ODE": grassmann_flow, "Stiefel ODE": stiefel_flow}
TRAININGS = {
    "plain step + projection": ("polar", "identity"),
    "Grassmann step": ("grassmann", "identity"),
    "tanh, projected": ("polar", "tanh"),
}
STYLES = {"plain step + projection": "-", "Stiefel ODE": ":", "Grassmann ODE": "--"}

Rows = list[dict[str, Any]]
Paths = dict[str, Tensor]  # q at every step of a training and of an ODE, by name


# %%
def data() -> tuple[list[Tensor], Tensor]:
    """One full batch, points and positives, and held-out points."""
    moons = HalfMoonsDataModule(200, num_samples=200)
    views, _ = next(iter(moons.train_dataloader()))
    return views, next(iter(moons.val_dataloader()))[0]


def basis_of(views: list[Tensor]) -> Eigenbasis:
    """Of C, with the next sample as negative."""
    return eigenbasis(trace_matrix(*views, views[0].roll(-1, 0)))


def train(constraint: Any, activation: str, width: int, seed: int, steps: int) -> Tensor:
    """W_2^T W_1 after every step in the eigenbasis of C, (steps + 1, 1, 2)."""
    views, _ = data()
    with seeded(seed):
        model = OrthogonalSSL(2, width, 1, activation, constraint, lr=LEARNING_RATE)
    path = [model.network.product().detach().double() for _ in full_batch_steps(model, views, steps)]
    return torch.stack(path) @ basis_of(views).eigenvectors


def compare(width: int, seed: int, steps: int) -> tuple[Rows, Paths]:
    """Distances of every training from every ODE, at the end and on the way, and all paths."""
    views, new = data()
    basis, times = basis_of(views), LEARNING_RATE * torch.arange(steps + 1)
    trained = {name: train(*how, width, seed, steps) for name, how in TRAININGS.items()}
    start = trained["Grassmann step"][0]
    solved = {name: flow(start, basis.eigenvalues, times) for name, flow in FLOWS.items()}
    solved["update (12)"] = discrete_flow(start, basis.eigenvalues, lr=LEARNING_RATE, num_steps=steps)
    end, rows = limit_point(start, basis.eigenvalues), []
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
    return rows, trained | solved


def decay_time(losses: Tensor) -> float:
    """Time at which 99 % of the way from the first to the least loss is done."""
    goal = losses[0] + 0.99 * (losses.min() - losses[0])
    return LEARNING_RATE * (losses <= goal).double().argmax().item()


# %%
def draw(found: Reproduction, paths: dict[tuple[int, int], Paths], widths: tuple[int, ...]) -> None:
    views, new = data()
    basis = basis_of(views)
    with found.figure("fig3", num_columns=2) as (left, right):
        for axis in (left, right):
            for name, style in STYLES.items():
                axis.plot([], [], style, color="0.3", label=name)
        for (width, seed), path in paths.items():
            for name, style in STYLES.items():
                times = LEARNING_RATE * torch.arange(len(path[name]))
                if seed == 0:
                    losses = flow_loss(path[name], basis.eigenvalues)
                    left.plot(times, losses, style, color=f"C{widths.index(width)}")
                if width == widths[0] and seed < 4:
                    outputs = flow_outputs(path[name], basis.eigenvectors, new[:1])[:, 0, 0]
                    right.plot(times, outputs, style, color=f"C{seed}")
        for colour, width in enumerate(widths):
            left.plot([], [], color=f"C{colour}", label=f"h = {width}")
        left.set(xlabel="t", title="loss, first initialisation")
        right.set(xlabel="t", title=f"output at a new point, h = {widths[0]}")
        left.legend(fontsize=8)
        right.legend(fontsize=8)


def judge(rows: Rows) -> list[Verdict]:
    polar, own, tanh = TRAININGS

    def over_widths(key: str, training: str, ode: str) -> list[float]:
        return seed_values(rows, key, training=training, ode=f"{ode} ODE")

    def ratios(above: list[float], below: list[float]) -> list[float]:
        return [a / b for a, b in zip(above, below, strict=True)]

    times = (over_widths(f"{of}_decay_time", polar, "Grassmann") for of in ("ode", "training"))
    gaps = (over_widths("largest_distance", polar, ode) for ode in ("Stiefel", "Grassmann"))
    return [
        mean_verdict(
            "training and ODE end at the same outputs",
            over_widths("last_distance", polar, "Grassmann"),
            below=0.05,
            note="relative distance at the end, mean over widths",
        ),
        mean_verdict(
            "the loss decays slightly slower in the (Grassmann) ODE than in training",
            ratios(*times),
            above=1,
            note="time to 99 % of the way, ODE over training",
        ),
        mean_verdict(
            "because projected training follows the Stiefel ODE",
            ratios(*gaps),
            below=0.5,
            paper="not in the paper",
            note="largest distance from it over that from the Grassmann ODE",
        ),
        mean_verdict(
            "Grassmann steps follow the Grassmann ODE",
            over_widths("largest_distance", own, "Grassmann"),
            below=0.05,
            note="largest relative distance",
        ),
        mean_verdict(
            "tanh networks end where the ODE does",
            over_widths("last_distance", tanh, "Stiefel"),
            below=0.1,
            note="relative distance at the end",
        ),
    ]


# %%
def main(
    *,
    full: bool = False,
    seeds: int | None = None,
    steps: int = STEPS,
    widths: tuple[int, ...] = WIDTHS,
    num_processes: int | None = None,
    output_dir: str = "runs/reproduce",
) -> list[Verdict]:
    """Train, solve, draw and judge."""
    trials = [(width, seed, steps) for width in widths for seed in range(seeds or (20 if full else 6))]
    tables, paths = zip(*run_trials(compare, trials, num_processes=num_processes), strict=True)
    rows = list(chain.from_iterable(tables))
    found = Reproduction("esser2023_fig3", output_dir)
    found.table("distances", rows)
    draw(found, {trial[:2]: path for trial, path in zip(trials, paths, strict=True)}, widths)
    return found.verdicts(judge(rows))


# %%
if __name__ == "__main__":
    run_script(main, full="20 initialisations", seeds="number of initialisations")
