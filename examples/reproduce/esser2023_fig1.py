"""Esser, Mukherjee, Ghoshdastidar 2023, figure 1 and Propositions 1 to 3: half moons with and without a constraint.

    python examples/reproduce/esser2023_fig1.py [--full]

Linear networks of two layers with the contrastive trace loss, from several initialisations. With one output: where
the outputs go. With two: whether they collapse to one. The text of the paper lost its settings: here h = 20,
lr = 0.05, 150 full batches of 200 points with noise 0.1. About a minute on two cores.
"""

# %%
import argparse
import logging
import warnings
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from lightning_ssl_theory import OrthogonalSSL
from lightning_ssl_theory.callbacks import CollapseMonitor
from lightning_ssl_theory.data import HalfMoonsDataModule
from lightning_ssl_theory.flows import eigenbasis, trace_matrix
from lightning_ssl_theory.metrics import feature_effective_rank
from lightning_ssl_theory.report import Reproduction, Verdict

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module=r"lightning\.")
warnings.filterwarnings("ignore", message="Stopped at step")

HIDDEN, LEARNING_RATE, STEPS = 20, 0.05, 150
CONSTRAINTS = ("none", "frobenius", "scaled_loss", "stiefel")
LABELS = {
    "none": "no constraint",
    "frobenius": "Frobenius norm",
    "scaled_loss": "scaled loss",
    "stiefel": "orthogonal",
}


class Products(Callback):
    """W_2^T W_1 before and after every step."""

    def __init__(self) -> None:
        self.path: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.path.append(pl_module.network.product().detach().clone())


# %%
def train(constraint: str, num_outputs: int, seed: int, steps: int) -> tuple[Tensor, dict[str, float]]:
    """The products along training, (steps, z, 2), and what CollapseMonitor sees at the end."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = OrthogonalSSL(2, HIDDEN, num_outputs, constraint=constraint, lr=LEARNING_RATE)  # type: ignore[arg-type]
    products, data = Products(), HalfMoonsDataModule(200, num_samples=200)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=steps,
        callbacks=[products, CollapseMonitor()],
        check_val_every_n_epoch=steps + 1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    (values,) = trainer.validate(model, datamodule=data, verbose=False)
    return torch.stack(products.path), values


def lowest_eigenvector() -> Tensor:
    """Of C, from a batch of the training data."""
    (x, positives), _ = next(iter(HalfMoonsDataModule(200, num_samples=200).train_dataloader()))
    return eigenbasis(trace_matrix(x, positives, x.roll(-1, 0))).eigenvectors[:, 0].float()


def ends(constraint: str, paths: list[Tensor], lowest: Tensor) -> list[dict[str, Any]]:
    """How long each product is at the end, and how far it has turned to the lowest eigenvector."""
    rows = []
    for seed, path in enumerate(paths):
        (last,) = path[-1]
        cosine = (last @ lowest / last.norm()).item()
        rows.append(
            {"constraint": constraint, "seed": seed, "steps": len(path)}
            | {"norm_start": path[0].norm().item(), "norm_end": last.norm().item(), "cosine": cosine}
        )
    return rows


# %%
def draw(reproduction: Reproduction, paths: dict[str, list[Tensor]], collapse: list[dict[str, Any]]) -> None:
    point = next(iter(HalfMoonsDataModule(200, num_samples=200).val_dataloader()))[0][0]
    with reproduction.figure("fig1", num_columns=3) as axes:
        for axis, constraint in zip(axes, ("none", "scaled_loss", "stiefel"), strict=False):
            for seed, path in enumerate(paths[constraint]):
                # the scaled loss does not see the norm, which stays where it happens to
                norms = path[:, 0].norm(dim=1) if constraint == "scaled_loss" else 1.0
                axis.plot(((path[:, 0] @ point) / norms).numpy(), color=f"C{seed % 8}")
            axis.set(xlabel="step", title=f"output at a point: {LABELS[constraint]}")
        axes[1].set_ylabel("divided by its norm")
        axes[0].set_yscale("symlog", linthresh=1.0)
    with reproduction.figure("collapse", num_columns=2) as axes:
        for axis, key in zip(axes, ("effective_rank", "dimension_alignment"), strict=True):
            for place, constraint in enumerate(CONSTRAINTS):
                values = [row[key] for row in collapse if row["constraint"] == constraint]
                axis.plot([place] * len(values), values, "o", alpha=0.6)
            axis.set_xticks(range(len(CONSTRAINTS)), [LABELS[name] for name in CONSTRAINTS], rotation=15)
        axes[0].set_title("effective rank of two outputs")
        axes[1].set_title("alignment of the two outputs")


def judge(rows: list[dict[str, Any]], collapse: list[dict[str, Any]], data_rank: float) -> list[Verdict]:
    def worst(table: list[dict[str, Any]], key: str, constraint: str, pick: Any = min) -> float:
        return pick(abs(row[key]) for row in table if row["constraint"] == constraint)

    verdicts = []
    for constraint in ("scaled_loss", "stiefel"):
        cosine = worst(rows, "cosine", constraint)
        claim = f"{LABELS[constraint]}: every initialisation ends at one of two points, +-v_1"
        verdicts.append(Verdict(claim, "in words", f"smallest |cosine| {cosine:.4f}", cosine > 0.99))
    growth = min(row["norm_end"] / row["norm_start"] for row in rows if row["constraint"] == "none")
    verdicts.append(
        Verdict(
            "no constraint: the outputs diverge",
            "in words",
            f"norm grows at least {growth:.0f} times",
            growth > 100,
        )
    )
    for constraint in ("none", "frobenius"):
        rank = worst(collapse, "effective_rank", constraint, max)
        claim = f"{LABELS[constraint]}: two outputs collapse to one direction"
        verdicts.append(Verdict(claim, "in words", f"largest effective rank {rank:.3f}", rank < 1.1))
    for constraint in ("scaled_loss", "stiefel"):
        rank = worst(collapse, "effective_rank", constraint)
        claim = f"{LABELS[constraint]}: two outputs keep two directions"
        here = f"smallest effective rank {rank:.3f}, of the data {data_rank:.3f}"
        verdicts.append(Verdict(claim, "in words", here, rank > 0.8 * data_rank))
    return verdicts


# %%
def main(
    *, full: bool = False, seeds: int | None = None, steps: int = STEPS, output_dir: str = "runs/reproduce"
) -> list[Verdict]:
    """Train, draw and judge."""
    seeds = seeds or (10 if full else 6)
    paths = {name: [train(name, 1, seed, steps)[0] for seed in range(seeds)] for name in CONSTRAINTS}
    collapse = []
    for constraint in CONSTRAINTS:
        for seed in range(min(seeds, 4)):
            values = {
                key.rpartition("/")[2]: value for key, value in train(constraint, 2, seed, steps)[1].items()
            }
            kept = ("effective_rank", "rankme", "min_std", "dimension_alignment")
            collapse.append({"constraint": constraint, "seed": seed} | {key: values[key] for key in kept})
    lowest = lowest_eigenvector()
    rows = [row for name in CONSTRAINTS for row in ends(name, paths[name], lowest)]
    reproduction = Reproduction("esser2023_fig1", output_dir)
    reproduction.table("ends", rows)
    reproduction.table("collapse", collapse)
    draw(reproduction, paths, collapse)
    points = next(iter(HalfMoonsDataModule(200, num_samples=200).val_dataloader()))[0]
    verdicts = judge(rows, collapse, feature_effective_rank(points).effective_rank.item())
    reproduction.verdicts(verdicts)
    return verdicts


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="ten initialisations")
    parser.add_argument("--output-dir", default="runs/reproduce")
    arguments = parser.parse_args()
    main(full=arguments.full, output_dir=arguments.output_dir)
