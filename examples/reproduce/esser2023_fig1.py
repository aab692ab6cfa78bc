"""Esser, Mukherjee, Ghoshdastidar 2023, figure 1 and Propositions 1 to 3: half moons with and without a constraint.

    python examples/reproduce/esser2023_fig1.py [--full]

Linear networks of two layers with the contrastive trace loss, from several initialisations. With one output: where
the outputs go. With two: whether they collapse to one. The text of the paper lost its settings: here h = 20,
lr = 0.05, 150 full batches of 200 points with noise 0.1. About a minute on two cores.
"""

# %%
import math
import warnings
from typing import Any

import torch
from torch import Tensor

from lightning_ssl_theory import OrthogonalSSL
from lightning_ssl_theory.callbacks import CollapseMonitor
from lightning_ssl_theory.data import HalfMoonsDataModule
from lightning_ssl_theory.flows import eigenbasis, trace_matrix
from lightning_ssl_theory.metrics import feature_effective_rank
from lightning_ssl_theory.report import (
    History,
    Reproduction,
    Verdict,
    mean_verdict,
    plot_seeds,
    quiet_trainer,
    run_script,
    run_trials,
    seeded,
    values_of,
)

HIDDEN, LEARNING_RATE, STEPS = 20, 0.05, 150
LABELS = {
    "none": "no constraint",
    "frobenius": "Frobenius norm",
    "scaled_loss": "scaled loss",
    "stiefel": "orthogonal",
}
KEPT = ("effective_rank", "rankme", "min_std", "dimension_alignment")


# %%
def train(constraint: Any, num_outputs: int, seed: int, steps: int) -> tuple[Tensor, dict[str, float]]:
    """W_2^T W_1 before training and after every step, (steps + 1, z, 2), and what CollapseMonitor sees at the end."""
    warnings.filterwarnings("ignore", message="Stopped at step")  # weights without a constraint run away
    with seeded(seed):
        model = OrthogonalSSL(2, HIDDEN, num_outputs, constraint=constraint, lr=LEARNING_RATE)
    products = History(lambda _, module: module.network.product().detach().clone(), steps=range(steps + 1))
    trainer = quiet_trainer(products, CollapseMonitor(), max_epochs=steps, check_val_every_n_epoch=steps + 1)
    data = HalfMoonsDataModule(200, num_samples=200)
    trainer.fit(model, datamodule=data)
    (values,) = trainer.validate(model, datamodule=data, verbose=False)
    return torch.stack(products.looks), {key.rpartition("/")[2]: value for key, value in values.items()}


def lowest_eigenvector() -> Tensor:
    """Of C, from a batch of the training data."""
    (x, positives), _ = next(iter(HalfMoonsDataModule(200, num_samples=200).train_dataloader()))
    return eigenbasis(trace_matrix(x, positives, x.roll(-1, 0))).eigenvectors[:, 0].float()


def end_of(path: Tensor, lowest: Tensor) -> dict[str, float]:
    """How long one output's product is at the end, and how far it has turned to the lowest eigenvector."""
    (first,), (last,) = path[0], path[-1]
    cosine = (last @ lowest / last.norm()).item()
    return {"norm_start": first.norm().item(), "norm_end": last.norm().item(), "cosine": cosine}


# %%
def draw(found: Reproduction, points: Tensor, paths: dict[str, list[Tensor]], collapse: list[dict]) -> None:
    with found.figure("fig1", num_columns=3) as axes:
        for axis, constraint in zip(axes, ("none", "scaled_loss", "stiefel"), strict=True):
            for path in paths[constraint]:
                # the scaled loss does not see the norm, which stays where it happens to
                norms = path[:, 0].norm(dim=1) if constraint == "scaled_loss" else 1.0
                axis.plot((path[:, 0] @ points[0]) / norms)
            axis.set(xlabel="step", title=f"output at a point: {LABELS[constraint]}")
        axes[1].set_ylabel("divided by its norm")
        axes[0].set_yscale("symlog", linthresh=1.0)
    with found.figure("collapse", num_columns=2) as axes:
        titles = {"effective_rank": "effective rank of two outputs", "dimension_alignment": "their alignment"}
        for axis, (key, title) in zip(axes, titles.items(), strict=True):
            values = [values_of(collapse, key, constraint=constraint) for constraint in LABELS]
            plot_seeds(
                axis, range(len(LABELS)), zip(*values, strict=True), marker="o", ls="", color="C0", alpha=0.5
            )
            axis.set_xticks(range(len(LABELS)), LABELS.values(), rotation=15)
            axis.set_title(title)


def judge(ends: list[dict[str, Any]], collapse: list[dict[str, Any]], data_rank: float) -> list[Verdict]:
    def growth(row: dict[str, Any]) -> float:
        return math.log10(row["norm_end"] / row["norm_start"])

    cosines = {
        name: [abs(cosine) for cosine in values_of(ends, "cosine", constraint=name)] for name in LABELS
    }
    ranks = {name: values_of(collapse, "effective_rank", constraint=name) for name in LABELS}
    of_data = f"effective rank, of the data {data_rank:.3f}"
    return [
        *(
            mean_verdict(
                f"{LABELS[name]}: every initialisation ends at one of two points, +-v_1",
                cosines[name],
                above=0.99,
                note=f"|cosine|, smallest {min(cosines[name]):.4f}",
            )
            for name in ("scaled_loss", "stiefel")
        ),
        mean_verdict(
            "no constraint: the outputs diverge",
            [growth(row) for row in ends if row["constraint"] == "none"],
            above=2,
            note="log10 of the growth of their norm",
        ),
        *(
            mean_verdict(
                f"{LABELS[name]}: two outputs collapse to one direction",
                ranks[name],
                below=1.1,
                note="effective rank",
            )
            for name in ("none", "frobenius")
        ),
        *(
            mean_verdict(
                f"{LABELS[name]}: two outputs keep two directions",
                ranks[name],
                above=0.8 * data_rank,
                note=of_data,
            )
            for name in ("scaled_loss", "stiefel")
        ),
    ]


# %%
def main(
    *,
    full: bool = False,
    seeds: int | None = None,
    steps: int = STEPS,
    num_processes: int | None = None,
    output_dir: str = "runs/reproduce",
) -> list[Verdict]:
    """Train, draw and judge."""
    seeds = seeds or (10 if full else 6)
    trials = [(name, outputs, seed, steps) for name in LABELS for outputs in (1, 2) for seed in range(seeds)]
    ends, collapse, paths, lowest = [], [], {name: [] for name in LABELS}, lowest_eigenvector()
    results = run_trials(train, trials, num_processes=num_processes)
    for (name, outputs, seed, _), (path, values) in zip(trials, results, strict=True):
        setting = {"constraint": name, "seed": seed}
        if outputs == 1:
            paths[name].append(path)
            ends.append(setting | end_of(path, lowest))
        else:
            collapse.append(setting | {key: values[key] for key in KEPT})
    found = Reproduction("esser2023_fig1", output_dir)
    found.table("ends", ends)
    found.table("collapse", collapse)
    points, _ = next(iter(HalfMoonsDataModule(200, num_samples=200).val_dataloader()))
    draw(found, points, paths, collapse)
    return found.verdicts(judge(ends, collapse, feature_effective_rank(points).effective_rank.item()))


# %%
if __name__ == "__main__":
    run_script(main, full="ten initialisations", seeds="number of initialisations")
