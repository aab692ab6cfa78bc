"""Wen, Li 2021, Section 1.1: without augmentation contrastive features of images are dense, with it sparse and apart.

    python examples/reproduce/wen_li2021_images.py --data-dir DIR [--num-seeds 1] [--full] [--device cuda]

A small AlexNet learns by InfoNCE from two equal views, from crops, from crops and colours, and from labels. Filters of
the first layer, how seldom neurons fire layer by layer, pictures of the embedding, and linear probes over the number of
labels stand beside one another. DIR holds train/<class>/* and test/<class>/*, such as CIFAR-10 as JPEGs. 5,000 images,
20 epochs and five seeds by default, each about five minutes of one core; fewer seeds leave the verdicts undecided.
`--quick` shows that it runs, `--full` takes all images for 100 epochs and a network four times as wide.
"""

# %%
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from sklearn.manifold import TSNE
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lightning_ssl_theory import ContrastiveSSL, PretextSSL, probes, report
from lightning_ssl_theory.data import ImageDataModule
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.metrics import ActivationSparsity, ActivationSparsityValues, linear_cka
from lightning_ssl_theory.networks import MLP

OFF = dict.fromkeys(("crop", "flip", "color", "gray", "blur"), 0.0)
ARMS = {  # strengths of the augmentations
    "no augmentation": OFF,
    "crops": OFF | {"crop": 0.8},
    "crops and colour": OFF | {"crop": 0.8, "flip": 0.5, "color": 0.5, "gray": 0.2},
    "supervised": OFF | {"crop": 0.8, "flip": 0.5},
}
NONE, CROPS, COLOUR, LABELS, UNTRAINED = ALL = (*ARMS, "untrained")
LAYERS = ("first convolution", "second convolution", "third convolution", "hidden layer")
CONVOLUTIONS, DRAWN = LAYERS[:3], LAYERS[1]
NOISE = 0.5  # how often a neuron fires that reads noise without a threshold
NUM_NEAR, TEMPERATURE = 20, 0.07
Rows, Features, Firing = list[dict[str, Any]], probes.LabelledFeatures, list[ActivationSparsityValues]


class Sizes(NamedTuple):  # what --quick and --full change
    num_train: int | None = 5000
    num_test: int = 2000
    num_epochs: int = 20
    batch_size: int = 250
    width: int = 32
    labels: tuple[int, ...] = (50, 100, 250, 500, 1000, 2500, 5000)
    num_drawn: int = 800


QUICK = Sizes(64, 32, 1, 32, 8, (32, 64), 32)
FULL = Sizes(None, 10_000, 100, 500, 128, (50, 100, 500, 1000, 5000, 10_000, 50_000), 2000)


# %%
def alexnet(width: int) -> nn.Sequential:
    """Three convolutions, the first of 7 x 7 pixels so that one sees what it looks for, and a layer on all of it."""
    layers: list[nn.Module] = []
    for inputs, outputs, size in ((3, width, 7), (width, 2 * width, 3), (2 * width, 4 * width, 3)):
        stride = 2 if size == 7 else 1
        layers += [nn.Conv2d(inputs, outputs, size, stride, padding=size // 2), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * width, 8 * width), nn.ReLU())


def train(name: str, seed: int, data_dir: str, sizes: Sizes, device: str) -> tuple[dict[str, Any], Rows, Any]:
    """What a training has learned: its numbers, its accuracy over the number of labels, and what is drawn."""
    images = {"num_train_samples": sizes.num_train, "num_probe_samples": max(sizes.labels), "image_size": 32}
    views = {"num_views": 1 if name == LABELS else 2, "augment_on_device": True} | ARMS.get(name, OFF)
    data = ImageDataModule("image_folder", data_dir, sizes.batch_size, seed=seed, **images, **views)
    with report.seeded(seed):  # all arms start from the same weights
        backbone, width = alexnet(sizes.width), 8 * sizes.width
        projector, head = MLP([width, width, 128]), nn.Linear(width, data.num_classes)
    backbone[0].weight.data *= 0.1  # a small start, as the theory's, so that filters show what was learned
    adam = partial(torch.optim.Adam, lr=1e-3)
    module: Any = ContrastiveSSL(backbone, projector, InfoNCELoss(0.5), optimizer=adam)
    if name == LABELS:
        read = {"read_batch": lambda batch: {"image": batch[0][0], "pretext": batch[1]}}
        module = PretextSSL(backbone, head, pretext="target", optimizer=adam, **read)
    if name != UNTRAINED:
        options = {"accelerator": "gpu" if device == "cuda" else device, "devices": 1, "limit_val_batches": 0}
        report.quiet_trainer(max_epochs=sizes.num_epochs, **options).fit(module, datamodule=data)
    backbone.cpu()
    fitted = features_of(backbone, data.probe_dataloader(), max(sizes.labels))
    held_out = features_of(backbone, data.val_dataloader(), sizes.num_test)
    curve = probes.label_curve(fitted, held_out, [min(count, len(fitted.labels)) for count in sizes.labels])
    firing = firing_of(backbone, data.val_dataloader(), sizes.num_test)
    row, weight = {"features": name, "seed": seed}, backbone[0].weight.detach()
    drawn = held_out._asdict() | {"filters": weight, "rates": firing[LAYERS.index(DRAWN)].firing_rates}
    return row | numbers(fitted, held_out, firing, weight), [row | one for one in curve], drawn


@torch.no_grad()
def features_of(backbone: nn.Module, loader: Any, limit: int) -> Features:
    batches = islice(loader, -(-limit // loader.batch_size))
    found = zip(*((backbone(images), labels) for images, labels in batches), strict=True)
    features, labels = (torch.cat(column)[:limit] for column in found)
    return Features(features, one_hot(labels).double(), labels)


@torch.no_grad()
def firing_of(backbone: nn.Sequential, loader: Any, limit: int) -> Firing:
    """How seldom neurons fire behind every ReLU, over images and, in convolutions, over their places."""
    found: dict[str, ActivationSparsity] = {}
    for values, _ in islice(loader, -(-limit // loader.batch_size)):
        for name, layer in backbone.named_children():
            values = layer(values)
            if isinstance(layer, nn.ReLU):
                places = values.movedim(1, -1).flatten(0, -2)
                found.setdefault(name, ActivationSparsity(places.shape[1])).update(places)
    return [metric.compute() for metric in found.values()]


# %%
def numbers(fitted: Features, held_out: Features, firing: Firing, filters: Tensor) -> dict[str, float]:
    """How seldom neurons fire at test images, how near classes lie, how rough and how coloured the filters are."""
    near = probes.nearest_neighbours(held_out.features, fitted.features, min(NUM_NEAR, len(fitted.labels)))
    votes = probes.knn_votes(near, fitted.labels, int(fitted.labels.max()) + 1, temperature=TEMPERATURE)
    values = {"dead_share": firing[-1].dead_share}
    for name, layer in zip(LAYERS, firing, strict=True):
        values[f"firing rate, {name}"] = layer.firing_rates[layer.firing_rates > 0].mean()
        values[f"hoyer, {name}"] = layer.hoyer
    values["knn"] = probes.top_k_correct(votes, held_out.labels).double().mean()
    values |= {"roughness": roughness(filters).mean(), "colour": colour(filters).mean()}
    return {key: float(value) for key, value in values.items()}


def roughness(filters: Tensor) -> Tensor:
    """Of each filter, whatever its size: 1 for noise, 0 for slow waves, whatever the mean of a colour."""
    steps = sum(filters.diff(dim=dim).square().mean(dim=(1, 2, 3)) for dim in (2, 3))
    centred = filters - filters.mean(dim=(2, 3), keepdim=True)
    return steps / (4 * centred.square().mean(dim=(1, 2, 3)))


def colour(filters: Tensor) -> Tensor:
    """Of each filter, whatever its size: 2/3 for noise, 0 for a grey one."""
    grey = filters.mean(dim=1).square().sum(dim=(1, 2))
    return 1 - filters.shape[1] * grey / filters.square().sum(dim=(1, 2, 3))


# %%
def draw(found: report.Reproduction, rows: Rows, curves: Rows, drawn: dict[str, Any], sizes: Sizes) -> None:
    """Filters, firing rates, embeddings, and what probes get; of the first seed where there are pictures."""
    with found.figure("features", num_rows=3, num_columns=4) as axes:
        for name, filters, firing, plane in zip(ARMS, axes, axes[4:], axes[8:], strict=False):
            own, before = drawn[name], drawn[UNTRAINED]["rates"]
            report.plot_filters(filters, own["filters"])
            report.plot_firing_rates(firing, own["rates"], before=before, dense=NOISE)
            features, labels = (own[key][: sizes.num_drawn] for key in ("features", "labels"))
            embed = TSNE(perplexity=min(30, len(features) // 4), init="pca", random_state=0)
            report.plot_embedding(plane, torch.from_numpy(embed.fit_transform(features.numpy())), labels)
            filters.set(title=name)
            firing.set(title=f"Neurons of the {DRAWN}", xlabel="share of places at which one fires")
            knn = report.values_of(rows, "knn", features=name)[0]
            plane.set(title=f"{NUM_NEAR}-NN accuracy {knn:.1%}")
        axes[4].legend(fontsize=8)
    with found.figure("firing") as (axis,):
        for name in ALL:
            rates = [report.values_of(rows, f"firing rate, {layer}", features=name) for layer in LAYERS]
            style = {"color": "black", "ls": "--"} if name == UNTRAINED else {}
            report.plot_means(axis, range(len(LAYERS)), rates, label=name, **style)
        axis.axhline(NOISE, color="black", lw=0.8, ls=":", label="a reader of noise")
        axis.set_xticks(range(len(LAYERS)), [layer.replace(" ", "\n") for layer in LAYERS])
        axis.set(title="How often neurons fire", ylabel="share of places and images", ylim=(0, 1))
        axis.legend(fontsize=8, loc="upper left", ncols=2)
    with found.figure("labels") as (axis,):
        report.plot_label_curves(axis, curves, "accuracy", dashed=UNTRAINED)
        axis.set(title="Linear probes", ylabel="accuracy on test images")
        axis.margins(y=0.25)  # room above the curves
        axis.legend(fontsize=8, loc="upper left", ncols=2)


SELDOM = "neurons fire more seldom with crops and colour than without, "
FIRING, EVERY = "difference of firing rates", "in every convolution"
RATES, HOYER = ({layer: f"{key}, {layer}" for layer in CONVOLUTIONS} for key in ("firing rate", "hoyer"))
ROUGH, COLOURED, ALIKE = ({f"of {key}": key} for key in ("roughness", "colour", "resemblance"))
# claim, quantities by name, and the two arms of which the second should have more of each
CLAIMS = (
    *((SELDOM + layer, {FIRING: f"firing rate, {layer}"}, COLOUR, NONE) for layer in LAYERS),
    (f"they are sparser by Hoyer's measure with crops and colour, {EVERY}", HOYER, NONE, COLOUR),
    (f"crops alone keep what fires densely: more often than with colour, {EVERY}", RATES, COLOUR, CROPS),
    (f"labels make features sparser than contrast without augmentation, {EVERY}", RATES, LABELS, NONE),
    ("filters are noise without augmentation: rougher than with it", ROUGH, COLOUR, NONE),
    ("filters keep more colour with crops alone than with colour", COLOURED, COLOUR, CROPS),
    ("filters keep more colour with labels than with crops and colour", COLOURED, COLOUR, LABELS),
    ("contrast with augmentation resembles supervised features more", ALIKE, NONE, COLOUR),
)


def judge(rows: Rows, curves: Rows) -> list[report.Verdict]:
    """What the paper says of images."""

    def gap(key: str, *arms: str, table: Rows = rows, **where: Any) -> list[float]:
        return report.paired_differences(*(report.values_of(table, key, features=a, **where) for a in arms))

    counts = sorted({row["labels"] for row in curves})
    probed = {f"{n} labels": gap("accuracy", NONE, COLOUR, table=curves, labels=n) for n in counts}
    return [
        *(
            report.joint_verdict(claim, {name: gap(key, a, b) for name, key in keys.items()}, above=0)
            for claim, keys, a, b in CLAIMS
        ),
        report.increase_verdict(
            f"classes come apart: {NUM_NEAR}-NN accuracy grows from none to crops to crops and colour",
            {name: report.values_of(rows, "knn", features=name) for name in (NONE, CROPS, COLOUR)},
        ),
        report.joint_verdict(
            "probes: crops and colour better than none at every number of labels", probed, above=0
        ),
    ]


# %%
def main(
    *,
    data_dir: str = "data",
    quick: bool = False,
    full: bool = False,
    device: str = "cpu",
    output_dir: str = "runs/reproduce",
    num_seeds: int | None = None,
    num_processes: int | None = None,
) -> list[report.Verdict]:
    """Train every arm on every seed, and write tables, figures and verdicts."""
    sizes, num_seeds = QUICK if quick else FULL if full else Sizes(), num_seeds or (1 if quick else 5)
    trials = [(name, seed, data_dir, sizes, device) for seed in range(num_seeds) for name in ALL]
    results = report.run_trials(train, trials, num_processes=num_processes)
    rows, curves = [row for row, _, _ in results], [one for _, curve, _ in results for one in curve]
    features = {(row["features"], row["seed"]): drawn["features"] for row, _, drawn in results}
    for row in rows:
        own, labels = (features[name, row["seed"]] for name in (row["features"], LABELS))
        row["resemblance"] = float(linear_cka(own, labels))
    found = report.Reproduction("wen_li2021_images", output_dir)
    found.table("features", rows)
    found.table("labels", curves)
    draw(found, rows, curves, {row["features"]: drawn for row, _, drawn in results[: len(ALL)]}, sizes)
    return found.verdicts(judge(rows, curves))


# %%
if __name__ == "__main__":
    report.run_script(
        main,
        data_dir="a folder of images: train/<class>/* and test/<class>/*",
        quick="a few images and one seed, to see that it runs",
        full="all images, 100 epochs, a wide network",
        device="cpu or cuda",
        num_seeds="trainings of every arm",
    )
