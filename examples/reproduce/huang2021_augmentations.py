"""Huang, Yi, Zhao, Jiang 2021, Section 5: richer augmentations concentrate the classes, and help what is learned.

    python examples/reproduce/huang2021_augmentations.py --data-dir DIR [--num-seeds 3] [--full] [--device cuda]

SimCLR and Barlow Twins with five augmentations, of which one after the other is removed, with colours of four
strengths, and SimCLR with pairs of two; beside the accuracy of a linear probe the concentration sigma of augmented test
images at one distance delta. DIR holds train/<class>/* and test/<class>/*, such as CIFAR-10 as JPEGs (compressed anew).
5,000 images, 6 epochs of a small network, one seed a setting by default: under twenty minutes on two cores;
`--num-seeds 3` is the table to report, `--quick` shows that it runs, `--full` trains ResNet-18 on all images.
"""

# %%
from collections.abc import Iterator
from functools import partial
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import LinearProbe
from lightning_ssl_theory.data import ImageDataModule, random_views
from lightning_ssl_theory.losses import CrossCorrelationLoss, InfoNCELoss
from lightning_ssl_theory.metrics import augmentation_concentration, augmented_distances
from lightning_ssl_theory.networks import MLP, ResNet, SmallConvNet
from lightning_ssl_theory.report import (
    Reproduction,
    Verdict,
    increase_verdict,
    mean_verdict,
    paired_differences,
    plot_means,
    quiet_trainer,
    rank_verdict,
    run_script,
    run_trials,
    seed_mean,
    seeded,
    values_of,
)

FIVE = {"crop": 0.8, "blur": 0.5, "gray": 0.2, "color": 0.5, "flip": 0.5}  # in SimCLR's strengths
STEPS = ("all five", "without flip", "nor colour", "nor grey", "crop alone")
STRENGTHS = {"colour 1/8": 0.125, "colour 1/4": 0.25, "colour 1/2": 0.5, "colour 1": 1.0}
NINE = (*STEPS, *STRENGTHS)
LOSSES = {"SimCLR": partial(InfoNCELoss, 0.5), "Barlow Twins": CrossCorrelationLoss}
PAPER = {  # accuracy on CIFAR-10 in per cent, of the nine settings
    "SimCLR": "89.92/88.41/83.62/62.91/62.37/73.60/76.25/78.49/82.64",
    "Barlow Twins": "83.93/83.37/73.70/49.56/48.54/61.13/68.30/72.76/78.79",
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of folders of images
LEVEL = 0.25  # delta is this quantile of the distances within classes under all five
Rows = list[dict[str, Any]]
Images = tuple[Tensor, Tensor]  # bytes (N, 3, S, S) and labels


class Sizes(NamedTuple):  # what --quick and --full change
    num_train: int | None = 5000
    num_test: int = 2000
    num_epochs: int = 6
    batch_size: int = 250
    widths: tuple[int, ...] = (16, 32, 64)  # () is ResNet-18
    num_concentrated: int = 500
    num_views: int = 8


QUICK, FULL = Sizes(64, 32, 1, 32, (4, 8), 16, 2), Sizes(None, 10_000, 200, 512, (), 2000, 16)


# %%
def settings() -> dict[str, dict[str, float]]:
    """The augmentations of every setting, with their strengths."""
    kept = (("crop", "blur", "gray", "color", "flip")[: 5 - number] for number in range(5))
    found = {step: {name: FIVE[name] for name in names} for step, names in zip(STEPS, kept, strict=True)}
    found |= {name: {"crop": FIVE["crop"], "color": strength} for name, strength in STRENGTHS.items()}
    return found | {f"{a} + {b}": {a: FIVE[a], b: FIVE[b]} for a, b in combinations(FIVE, 2)}


def read_images(data_dir: str, sizes: Sizes) -> tuple[Images, Images]:
    """Training and test images, decoded once for all trainings."""
    limit = {"image_size": 32, "num_probe_samples": sizes.num_train}
    data = ImageDataModule("image_folder", data_dir, sizes.num_test, **limit)
    train, test = zip(*data.probe_dataloader(), strict=True), next(iter(data.val_dataloader()))
    scale, shift = (torch.tensor(values).reshape(3, 1, 1) for values in (STD, MEAN))
    parts = ([torch.cat(batches) for batches in train], test)
    first, second = (((255 * (clean * scale + shift)).round().byte(), labels) for clean, labels in parts)
    return first, second


def views_of(pixels: Tensor, strengths: dict[str, float], generator: torch.Generator | None = None) -> Tensor:
    return random_views(pixels, MEAN, STD, generator=generator, **dict.fromkeys(FIVE, 0.0) | strengths)


class Epochs(IterableDataset):  # two views of whole batches, in a random order
    def __init__(self, images: Images, strengths: dict[str, float], batch_size: int, seed: int) -> None:
        self.pixels, self.labels = images
        self.strengths, self.batch_size = strengths, batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[list[Tensor], Tensor]]:
        order = torch.randperm(len(self.labels), generator=self.generator)
        for rows in order[: len(order) // self.batch_size * self.batch_size].split(self.batch_size):
            views = [views_of(self.pixels[rows], self.strengths, self.generator) for _ in range(2)]
            yield views, self.labels[rows]


# %%
def train(
    name: str, loss: str, seed: int, images: tuple[Images, ...], sizes: Sizes, device: str
) -> dict[str, Any]:
    """Accuracy of a linear probe on what one training has learned."""
    with seeded(seed):
        small = SmallConvNet(3, sizes.widths, batch_norm=True) if sizes.widths else None
        backbone = small or ResNet("resnet18", stem="cifar")
        width = backbone.num_features
        projector = MLP([width, 2 * width, width], batch_norm=True)
    module = ContrastiveSSL(backbone, projector, LOSSES[loss](), optimizer=partial(torch.optim.Adam, lr=2e-3))
    module = module.to(memory_format=torch.channels_last)
    pixels, labels = (part.to(device) for part in images[0])
    epochs = Epochs((pixels, labels), settings()[name], sizes.batch_size, seed)
    accelerator = {"accelerator": "gpu" if device == "cuda" else device, "devices": 1}
    quiet_trainer(max_epochs=sizes.num_epochs, **accelerator).fit(module, DataLoader(epochs, batch_size=None))
    clean = [DataLoader(TensorDataset(views_of(one, {}), found), 500) for one, found in images]
    num_classes = int(labels.max()) + 1
    probe = LinearProbe(num_classes=num_classes, fit_loader=clean[0], few_labels=(), num_fit_samples=None)
    quiet_trainer(probe, **accelerator).validate(module, clean[1], verbose=False)
    accuracy = probe.values["probe/backbone/logistic_top1"]
    return {"setting": name, "loss": loss, "seed": seed, "accuracy": accuracy}


def concentration(names: list[str], images: Images, sizes: Sizes) -> dict[str, dict[str, float]]:
    """Sigma of test images, the clean ones among their views, at one delta for all settings."""
    pixels, labels = (rows[: sizes.num_concentrated] for rows in images)
    rows, delta = {}, torch.zeros(0)
    for name in names:  # the first has all five
        generator = torch.Generator().manual_seed(0)
        random = [views_of(pixels, settings()[name], generator) for _ in range(sizes.num_views - 1)]
        views = torch.stack([views_of(pixels, {}), *random], dim=1)
        distances = augmented_distances(views, labels)
        if not len(delta):
            delta = distances[distances.isfinite() & (distances > 0)].quantile(LEVEL).reshape(1)
        found = augmentation_concentration(distances, labels, delta, seconds=0.2, num_subsamples=10)
        values = {"delta": delta, "sigma_lower": found.sigma_lower, "sigma_upper": found.sigma_upper}
        values |= {"sigma_error": found.standard_error, "sigma_mean": found.class_lower.nanmean()}
        rows[name] = {key: value.item() for key, value in values.items()}
    return rows


# %%
def accuracies(rows: Rows, loss: str, names: Any = None) -> dict[str, list[float]]:
    names = names or dict.fromkeys(values_of(rows, "setting", loss=loss))
    return {name: values_of(rows, "accuracy", setting=name, loss=loss) for name in names}


def draw(found: Reproduction, rows: Rows) -> None:
    """Accuracy by step and by strength of the colours, and over the concentration."""
    with found.figure("augmentations", num_columns=3) as (steps, strengths, sigmas):
        for loss in LOSSES:
            for axis, names in ((steps, STEPS), (strengths, [*STRENGTHS])):
                plot_means(axis, range(len(names)), [*accuracies(rows, loss, names).values()], label=loss)
                axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
            every = accuracies(rows, loss)
            places = [values_of(rows, "sigma_mean", setting=name)[0] for name in every]
            plot_means(sigmas, places, [*every.values()], label=loss, ls="")
        steps.set(title="Augmentations removed", ylabel="accuracy")
        strengths.set(title="Crop and colours")
        sigmas.set(title="Concentration", xlabel="sigma at one delta, mean over classes")
        steps.legend()


def judge(rows: Rows) -> list[Verdict]:
    verdicts = []
    for loss in LOSSES:
        steps, strengths = accuracies(rows, loss, STEPS), accuracies(rows, loss, STRENGTHS)
        drops = [paired_differences(steps[after], steps[before]) for before, after in pairwise(STEPS)]
        others = [max(values) for values in zip(drops[0], drops[1], drops[3], strict=True)]
        here = [f"{100 * seed_mean(values).value:.1f}" for values in (steps | strengths).values()]
        paper = PAPER[loss].split("/")
        every = accuracies(rows, loss)
        verdicts += [
            increase_verdict(
                f"{loss}: every augmentation that is removed costs accuracy",
                dict(reversed(steps.items())),
                paper="/".join(paper[:5]),
                note=f"here {'/'.join(here[:5])} %",
            ),
            mean_verdict(
                f"{loss}: grey, once colour is gone, costs more than any other",
                paired_differences(others, drops[2]),
                above=0,
                paper=f"{paper[2]} to {paper[3]}",
            ),
            increase_verdict(
                f"{loss}: the stronger the colours, the more accurate",
                strengths,
                paper="/".join(paper[5:]),
                note=f"here {'/'.join(here[5:])} %",
            ),
            rank_verdict(
                f"{loss}: the more concentrated the classes, the more accurate",
                [values_of(rows, "sigma_mean", setting=name)[0] for name in every],
                [seed_mean(values).value for values in every.values()],
                note="means over seeds and, of sigma, over classes",
            ),
        ]
    return verdicts


# %%
def main(
    *,
    data_dir: str = "data",
    quick: bool = False,
    full: bool = False,
    device: str = "cpu",
    output_dir: str = "runs/reproduce",
    num_seeds: int = 1,
    num_processes: int | None = None,
) -> list[Verdict]:
    """Train with all settings, and write the table, the figure and the verdicts."""
    sizes = QUICK if quick else FULL if full else Sizes()
    images = read_images(data_dir, sizes)
    names = [*NINE] if quick else [*settings()]
    chosen = [("SimCLR", name) for name in names] + [("Barlow Twins", name) for name in NINE]
    trials = [(name, loss, seed, images, sizes, device) for seed in range(num_seeds) for loss, name in chosen]
    found = Reproduction("huang2021_augmentations", output_dir)
    sigmas = concentration(names, images[1], sizes)
    rows = [row | sigmas[row["setting"]] for row in run_trials(train, trials, num_processes=num_processes)]
    found.table("augmentations", rows)
    draw(found, rows)
    return found.verdicts(judge(rows))


# %%
if __name__ == "__main__":
    run_script(
        main,
        data_dir="a folder of images: train/<class>/* and test/<class>/*",
        quick="a few images, to see that it runs",
        full="ResNet-18, all images, 200 epochs",
        device="cpu or cuda",
        num_seeds="trainings of every setting",
    )
