"""Huang, Yi, Zhao, Jiang 2021, Theorem 1: the error bound of contrastive learning and the true error, while training.

    python examples/reproduce/huang2021_bound.py [--data-dir DIR]

Three tight clouds of points, whose views all come near one another: there the bound comes to say something as the
centres of the clouds move apart, until training tells the samples of a cloud apart as well. And images, scikit-learn's
digits or those of a folder, where it says nothing, and which of the three factors (alignment, divergence,
concentration) is in the way. Two minutes on two cores.
"""

# %%
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import GeneralizationMonitor
from lightning_ssl_theory.data import DigitsDataModule, ImageDataModule
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.networks import MLP, SmallConvNet
from lightning_ssl_theory.report import (
    History,
    Reproduction,
    Verdict,
    factor_in_the_way,
    identity_verdict,
    mean_verdict,
    paired_differences,
    plot_means,
    quiet_trainer,
    run_script,
    run_trials,
    seeded,
    values_of,
)

WORLDS = ("clouds", "images")
SHOWN = (
    "bound",
    "error",
    "vacuous",
    "divergence",
    "threshold",
    "rho_alignment",
    "rho_concentration",
    "delta_mu",
)
LAYER = "generalization/output"
STEPS = 20  # of an epoch, at most

Rows = list[dict[str, Any]]


# %%
class Clouds(LightningDataModule):
    """Three clouds in R^8 at right angles, and views by as much noise as the samples themselves have."""

    num_classes, num_features = 3, 8

    def __init__(self, seed: int, *, num_samples: int = 150, noise: float = 0.01) -> None:
        super().__init__()
        self.noise, self.generator = noise, torch.Generator().manual_seed(seed)
        self.labels = torch.arange(num_samples) % self.num_classes
        self.points = self.noisy(torch.eye(self.num_features)[self.labels])

    def noisy(self, points: Tensor) -> Tensor:
        return points + self.noise * torch.randn(points.shape, generator=self.generator)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(_Epoch(self), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader([(self.points, self.labels)], batch_size=None)

    def views_dataloader(self) -> DataLoader:
        views = [self.points, *(self.noisy(self.points) for _ in range(3))]
        return DataLoader([(views, self.labels)], batch_size=None)


class _Epoch(IterableDataset):
    def __init__(self, clouds: Clouds) -> None:
        self.clouds = clouds

    def __iter__(self) -> Iterator[tuple[list[Tensor], Tensor]]:
        for _ in range(STEPS):
            yield [self.clouds.noisy(self.clouds.points) for _ in range(2)], self.clouds.labels


def world_of(name: str, seed: int, data_dir: str | None) -> tuple[LightningDataModule, nn.Module]:
    """Data and a backbone with 32 features."""
    if name == "clouds":
        return Clouds(seed), MLP([Clouds.num_features, 32])
    if data_dir is None:
        return DigitsDataModule(seed=seed), SmallConvNet(1, [16, 32])
    data = ImageDataModule("image_folder", data_dir, 250, image_size=32, seed=seed)
    return data, SmallConvNet(3, [16, 32, 32])


def train(name: str, seed: int, num_epochs: int, data_dir: str | None) -> Rows:
    """What the monitor logs before training and after every epoch."""
    data, backbone = world_of(name, seed, data_dir)
    with seeded(seed):
        backbone = world_of(name, seed, data_dir)[1]
        projector = MLP([32, 8])
    module = ContrastiveSSL(
        backbone, projector, InfoNCELoss(0.5), optimizer=partial(torch.optim.Adam, lr=3e-3)
    )
    views = data.views_dataloader()  # drawn once: the same in every look
    monitor = GeneralizationMonitor(views_loader=views, num_samples=500)
    looks = History(lambda *_: dict(monitor.values))
    options = {"max_epochs": num_epochs, "limit_train_batches": STEPS}
    quiet_trainer(monitor).validate(module, datamodule=data, verbose=False)
    rows = [dict(monitor.values)]
    quiet_trainer(monitor, looks, **options).fit(module, datamodule=data)
    return [
        {"world": name, "seed": seed, "epoch": epoch, "rho": look[f"{LAYER}/rho_max"]}
        | {key.rsplit("/", 1)[1]: value for key, value in look.items()}
        for epoch, look in enumerate([*rows, *looks.looks])
    ]


# %%
def draw(found: Reproduction, rows: Rows) -> None:
    """Bound and error above, divergence and its threshold below, a column a world."""
    with found.figure("bound", num_rows=2, num_columns=2) as axes:
        for column, world in enumerate(WORLDS):
            epochs = sorted({row["epoch"] for row in rows if row["world"] == world})
            for axis, keys in (
                (axes[column], ("bound", "error")),
                (axes[column + 2], ("divergence", "threshold")),
            ):
                for key in keys:
                    values = [values_of(rows, key, world=world, epoch=epoch) for epoch in epochs]
                    plot_means(axis, epochs, values, label=key)
                axis.set(xlabel="epoch")
                axis.legend()
            axes[column].set(title=world, ylabel="share of the samples", ylim=(-0.05, 1.05))
            axes[column + 2].set(ylabel="relative to r²")


def judge(rows: Rows) -> list[Verdict]:
    """Nowhere is the error larger than the bound; on clouds the bound comes to say something, on images it does not."""

    def last(world: str, key: str) -> list[float]:
        epoch = max(row["epoch"] for row in rows if row["world"] == world)
        return values_of(rows, key, world=world, epoch=epoch)

    def best(key: str, choose: Callable[[list[float]], float]) -> list[float]:
        seeds = dict.fromkeys(values_of(rows, "seed", world="clouds"))
        return [choose(values_of(rows, key, world="clouds", seed=seed)) for seed in seeds]

    (image, *_) = (row for row in reversed(rows) if row["world"] == "images")
    return [
        identity_verdict(
            "Thm 1: the error stays below the bound, in every look at both worlds",
            [row["bound"] - row["error"] for row in rows],
            above=-1e-9,
            note="1 where the bound says nothing",
        ),
        mean_verdict(
            "clouds: before training the bound says nothing",
            values_of(rows, "vacuous", world="clouds", epoch=0),
            above=0.5,
        ),
        mean_verdict("clouds: at its best it allows less than 10 % errors", best("bound", min), below=0.1),
        mean_verdict(
            "clouds: further training tells samples of a class apart, and loses the bound: rho grows",
            paired_differences(best("rho", min), best("rho", lambda values: values[-1])),
            above=0,
            note="in the last epoch less the smallest",
        ),
        mean_verdict(
            "images: the bound says nothing after training either",
            last("images", "vacuous"),
            above=0.5,
            note=factor_in_the_way(image),
        ),
    ]


# %%
def main(
    *,
    data_dir: str | None = None,
    output_dir: str = "runs/reproduce",
    num_seeds: int = 5,
    num_epochs: int = 8,
    num_processes: int | None = None,
) -> list[Verdict]:
    """Train in both worlds, and write the table, the figure and the verdicts."""
    trials = [(world, seed, num_epochs, data_dir) for world in WORLDS for seed in range(num_seeds)]
    rows = [row for part in run_trials(train, trials, num_processes=num_processes) for row in part]
    found = Reproduction("huang2021_bound", output_dir)
    keys = ("world", "seed", "epoch", *SHOWN)
    found.table("looks", [{key: row[key] for key in keys} for row in rows])
    draw(found, rows)
    return found.verdicts(judge(rows))


# %%
if __name__ == "__main__":
    run_script(
        main,
        data_dir="a folder of images: train/<class>/* and test/<class>/*",
        num_seeds="trainings in each world",
        num_epochs="length of each",
    )
