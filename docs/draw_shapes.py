"""The healthy and the sick picture of every diagnostic's page, from two real short runs of each on handwritten digits.

    python docs/draw_shapes.py            # trains anew (some minutes on one core), writes docs/shapes/*.csv and *.svg
    python docs/draw_shapes.py --drawing  # draws docs/shapes/*.svg from the tables
    python docs/draw_shapes.py tree       # trains one run anew and draws

The healthy run is InfoNCE; the sick ones only pull the views of a sample together, with nothing that keeps samples
apart: as they are, so that features vanish, or on the unit sphere, so that they meet. Orthogonality needs two linear layers, with the constraint and without it; the latent tree has data of its own,
in which the sick run's lower levels say next to nothing about the upper ones.
"""

import csv
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor, nn

from lightning_ssl_theory import ContrastiveSSL, OrthogonalSSL, callbacks
from lightning_ssl_theory.data import DigitsDataModule, LatentTreeDataModule
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.networks import MLP, LatentTreeNetwork, SmallConvNet
from lightning_ssl_theory.report import seeded
from lightning_ssl_theory.report.keys import parse_key
from lightning_ssl_theory.report.logged_run import read_run
from lightning_ssl_theory.report.reproduction import COLOURS, LOOK

SHAPES = Path(__file__).parent / "shapes"
LAYER = "backbone.conv_2"


# %% what is drawn, and of which runs
class Panel(NamedTuple):
    """Curves that share an axis."""

    keys: tuple[str, ...]
    label: str
    is_log: bool = False


class Page(NamedTuple):
    """The picture of one page."""

    runs: tuple[str, str]
    titles: tuple[str, str]
    panels: tuple[Panel, ...]


DIGITS = ("contrastive", "pulled_together"), ("healthy: InfoNCE", "sick: views are only pulled together")
SPHERE = ("contrastive", "pulled_on_sphere"), ("healthy: InfoNCE", "sick: pulled together on the sphere")
PAGES = {
    "covariance_operators": Page(
        *DIGITS,
        (
            Panel((f"covariance/{LAYER}/trace",), "trace", is_log=True),
            Panel((f"covariance/{LAYER}/signal_ratio",), "signal share"),
        ),
    ),
    "neuron_selectivity": Page(
        *DIGITS,
        (
            Panel(("selectivity/backbone/selective_share",), "selective neurons"),
            Panel(("selectivity/backbone/mean",), "mean selectivity", is_log=True),
        ),
    ),
    "feature_norms": Page(
        *DIGITS,
        (
            Panel(("feature_norms/backbone/mean_norm",), "feature norm", is_log=True),
            Panel(("feature_norms/backbone/firing_rate", "feature_norms/backbone/dead_share"), "share"),
        ),
    ),
    "linear_probe": Page(
        *DIGITS,
        (Panel(("probe/backbone/logistic_top1", "probe/backbone/logistic_top1_10_labels"), "accuracy"),),
    ),
    "collapse": Page(
        *SPHERE,
        (
            Panel(("collapse/output/effective_rank", "collapse/output/rankme"), "directions"),
            Panel(("collapse/output/dimension_alignment",), "alignment of dimensions"),
        ),
    ),
    "generalization": Page(
        *SPHERE,
        (
            Panel(("generalization/output/error",), "error of the nearest centre"),
            Panel(("generalization/output/divergence",), "divergence"),
            Panel(("generalization/output/alignment",), "alignment", is_log=True),
        ),
    ),
    "orthogonality": Page(
        ("constrained", "unconstrained"),
        ("healthy: orthonormal weights", "sick: no constraint"),
        (
            Panel(("orthogonality/network.hidden/drift",), "drift", is_log=True),
            Panel(("orthogonality/output/flow_distance",), "distance from the flow", is_log=True),
        ),
    ),
    "latent_tree": Page(
        ("tree", "tree_without_signal"),
        ("healthy: polarity 0.6 to 0.8", "sick: polarity 0.1 to 0.3"),
        (
            Panel(
                tuple(f"selectivity/backbone.level_{level}/normalized_correlation" for level in (1, 2, 3)),
                "correlation with the latent",
            ),
        ),
    ),
}


# %% the runs
class PullTogether(nn.Module):
    """The mean squared distance between the two views of a sample, on the unit sphere or as they are."""

    def __init__(self, *, on_sphere: bool) -> None:
        super().__init__()
        self.on_sphere = on_sphere

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        if self.on_sphere:
            z1, z2 = nn.functional.normalize(z1), nn.functional.normalize(z2)
        return (z1 - z2).square().sum(1).mean()


def train(name: str) -> dict[str, tuple[list[float], list[float]]]:
    """The curves of one run by key: steps and values."""
    build = tree if name.startswith("tree") else two_layers if "constrained" in name else digits
    module, data, watchers, max_epochs = build(name)
    with TemporaryDirectory() as folder:
        logger = CSVLogger(folder, name=name, version="")
        quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
        epochs = {"max_epochs": max_epochs, "check_val_every_n_epoch": max_epochs, "num_sanity_val_steps": 0}
        trainer = Trainer(callbacks=watchers, logger=logger, accelerator="cpu", **epochs, **quiet)
        trainer.fit(module, datamodule=data)
        run = read_run(Path(folder) / name)
        return {key: (list(run.series[key].steps), list(run.series[key].values)) for key in keys_of(name)}


def digits(name: str) -> tuple[LightningModule, LightningDataModule, list[Callback], int]:
    """A small convolutional network on two views of every digit."""
    with seeded(0):
        backbone, projector = SmallConvNet(1, [16, 32], bias=False), MLP([32, 64, 32], bias=False)
    is_sick = name != "contrastive"
    loss = PullTogether(on_sphere=name.endswith("sphere")) if is_sick else InfoNCELoss(temperature=0.5)

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=3e-3)

    data, every = DigitsDataModule(), {"every_n_steps": 10}
    watchers = [
        callbacks.CovarianceOperators([LAYER], num_samples=128, **every),
        callbacks.NeuronSelectivity(["backbone"], **every),
        callbacks.FeatureNormMonitor(["backbone"], **every),
        callbacks.LinearProbe(
            "backbone", fit_loader=data.probe_dataloader(), score_loader=data.val_dataloader(), **every
        ),
        callbacks.CollapseMonitor(**every),
        callbacks.GeneralizationMonitor(num_samples=200, **every),
    ]
    return ContrastiveSSL(backbone, projector, loss, optimizer=adam), data, watchers, 30


def two_layers(name: str) -> tuple[LightningModule, LightningDataModule, list[Callback], int]:
    """Two linear layers and the trace loss."""
    data = DigitsDataModule()
    reference = next(iter(data.train_dataloader()))
    with seeded(0):
        constraint = "stiefel" if name == "constrained" else "none"
        module = OrthogonalSSL(64, 128, 4, constraint=constraint, lr=0.02)
    layers = ["network.hidden", "network.output"]
    watcher = callbacks.OrthogonalityMonitor(layers, reference=reference, every_n_steps=2)
    return module, data, [watcher], 12


def tree(name: str) -> tuple[LightningModule, LightningDataModule, list[Callback], int]:
    """A network that is wired like the tree of latents behind its data."""
    polarity = (0.6, 0.8) if name == "tree" else (0.1, 0.3)
    data = LatentTreeDataModule(depth=4, polarity=polarity, num_samples=12_800, num_val_samples=1_000)
    with seeded(0):
        network = LatentTreeNetwork(4, group_size=10, is_normalized=True)

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.3)

    module = ContrastiveSSL(network, nn.Identity(), InfoNCELoss(temperature=0.5), optimizer=sgd)
    return module, data, [callbacks.LatentTreeMonitor(every_n_steps=20, num_samples=1_000)], 4


def keys_of(name: str) -> list[str]:
    """What the pictures need of one run."""
    return [key for page in PAGES.values() if name in page.runs for panel in page.panels for key in panel.keys]


# %% tables and pictures
def write_table(name: str, curves: dict[str, tuple[list[float], list[float]]]) -> None:
    """One row for every look and key."""
    with (SHAPES / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("key", "step", "value"))
        for key, (steps, values) in curves.items():
            writer.writerows(
                (key, int(step), f"{value:.6g}") for step, value in zip(steps, values, strict=True)
            )


def read_table(name: str) -> dict[str, tuple[list[int], list[float]]]:
    """What `write_table` wrote."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    with (SHAPES / f"{name}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            steps, values = curves.setdefault(row["key"], ([], []))
            steps.append(int(row["step"]))
            values.append(float(row["value"]))
    return curves


def draw(name: str, page: Page) -> None:
    """A row for every panel, the healthy run on the left, the sick one on the right, on one scale."""
    tables = [read_table(run) for run in page.runs]
    look = LOOK | {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": ["sans-serif"]}
    with rc_context(look):
        size = (7.6, 0.5 + 1.9 * len(page.panels))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(page.panels), 2, squeeze=False, sharex="col", sharey="row")
        for row, panel in zip(grid, page.panels, strict=True):
            for axis, table in zip(row, tables, strict=True):
                for key, colour in zip(panel.keys, COLOURS, strict=False):
                    axis.plot(*table[key], color=colour, label=curve_label(key))
                if panel.is_log:
                    axis.set_yscale("log")
            row[0].set_ylabel(panel.label)
            if len(panel.keys) > 1:
                row[0].legend(fontsize=8)
        for axis, title in zip(grid[0], page.titles, strict=True):
            axis.set_title(title)
        for axis in grid[-1]:
            axis.set_xlabel("step")
        figure.savefig(SHAPES / f"{name}.svg", metadata={"Date": None})


def curve_label(key: str) -> str:
    """The level of a latent tree, else the title in the table of keys."""
    parsed = parse_key(key)
    level = parsed.layer.rpartition("level_")[2]
    if level.isdigit():
        return f"level {level}"
    return parsed.quantity.title.replace("<k>", str(parsed.number)) if parsed.quantity else key


def main() -> None:
    """Train unless told not to, then draw."""
    SHAPES.mkdir(exist_ok=True)
    runs = list(dict.fromkeys(run for page in PAGES.values() for run in page.runs))
    if "--drawing" not in sys.argv:
        for name in sys.argv[1:] or runs:
            write_table(name, train(name))
    for name, page in PAGES.items():
        draw(name, page)


if __name__ == "__main__":
    main()
