"""Teng, Huang, He 2022: when downstream labels boost pretext learning, and when they hurt it.

    python examples/reproduce/teng2022_pretext.py [--quick] [--data-dir FOLDER]

A processor f is trained with n0 downstream labels on E||y - W* f||^2 - lambda E||z - W* f||^2, pretext learning goes on
from it, and a linear probe with a few other labels reads the downstream target. On Gaussian data, where all is known in
closed form, and with rotations as the pretext: on scikit-learn's digits, or on a folder of images in 10 classes
(train/<class>/*, test/<class>/*; for an hour or two). Some three minutes on two cores.
"""

# %%
import warnings
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader

from lightning_ssl_theory import PretextSSL, report
from lightning_ssl_theory import data as worlds
from lightning_ssl_theory.losses import BoostedLeastSquaresLoss
from lightning_ssl_theory.networks import SmallConvNet
from lightning_ssl_theory.probes import labels_per_class, ridge_regression

WIDTH, FEW, FEW_PER_CLASS = 16, 16, 2  # d_f; labels of the probe that comes after the boost
BELOW, ABOVE = (0.05, 0.3), 3.0  # weights lambda below and above the bound, which is 1 in the Gaussian world

Rows = list[dict[str, Any]]
Images = tuple[Tensor, ...]  # training images and labels, and held-out ones
fast_adam = partial(torch.optim.Adam, lr=1e-2)


class Sizes(NamedTuple):
    """What --quick makes small."""

    num_samples: int = 2048
    ratios: tuple[float, ...] = (0.5, 1, 2, 4, 16, 64)  # n0 / d_f
    iterations: int = 60
    draws: int = 40
    num_images: int = 600
    labels_per_class: tuple[int, ...] = (1, 4, 16, 40)
    image_lambdas: tuple[float, ...] = (0.1, 1.0)
    pretext_steps: int = 60
    boost_steps: int = 40


def fit(module: PretextSSL, batch: Any, num_steps: int) -> None:
    """Full-batch steps."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The boosted loss has")  # few labels are the point here
        loader, options = DataLoader([batch], batch_size=None), {"max_steps": num_steps, "max_epochs": -1}
        report.quiet_trainer(limit_val_batches=0, **options).fit(module, loader)


def row_of(data: str, seed: int, ratio: float, lamb: float, few: list[float], same: float) -> dict[str, Any]:
    row = {"data": data, "seed": seed, "ratio": ratio, "lambda": lamb}
    return row | {"error": sum(few) / len(few), "error_same_labels": same, "c1": ""}


# %%
def gaussian_trial(sizes: Sizes, seed: int) -> Rows:
    """Errors of probes after boosts with every number of labels and every lambda, and without one."""
    rows: Rows = []
    for ratio in sizes.ratios:
        count, options = sizes.num_samples, {"seed": seed, "num_labels": round(ratio * WIDTH)}
        world = worlds.GaussianPretextDataModule("separable", num_samples=count, batch_size=count, **options)
        batch = next(iter(world.train_dataloader()))
        known = batch["label"] >= 0
        generator = torch.Generator().manual_seed(1000 + seed)
        draws = [world.draw(FEW, generator=generator) for _ in range(sizes.draws)]
        for lamb in (0.0, *BELOW, ABOVE):
            processor = trained_processor(batch, lamb, sizes.iterations, seed)
            error = partial(probe_error, processor, world.moments)
            few = [error(one.inputs, one.downstream) for one in draws]
            same = error(batch["image"][known], batch["downstream"][known])
            row = row_of("Gaussian", seed, ratio, lamb, few, same)
            rows.append(row | {"c1": c1_norm(processor, world.moments)})
    return rows


def trained_processor(batch: dict[str, Tensor], lamb: float, iterations: int, seed: int) -> Tensor:
    """F, shape (d_f, D), that the boosted loss comes to; x itself without a boost."""
    if not lamb:
        return torch.eye(batch["image"].shape[1]).double()
    with report.seeded(seed):
        backbone = nn.Linear(batch["image"].shape[1], WIDTH, bias=False)
    optimizer = partial(torch.optim.LBFGS, max_iter=iterations, line_search_fn="strong_wolfe")
    loss = BoostedLeastSquaresLoss(lamb)
    fit(PretextSSL(backbone, nn.Identity(), loss, pretext="target", optimizer=optimizer), batch, 1)
    return backbone.weight.detach().double()


def probe_error(processor: Tensor, moments: Any, inputs: Tensor, downstream: Tensor) -> float:
    """Exact E||y - y_hat||^2 of a ridge probe, fitted to some labels, on W* F x: what pretext learning makes of F x."""
    inner = torch.linalg.pinv(processor @ moments.xx @ processor.mT, rtol=1e-10, hermitian=True)
    representation = (inner @ processor @ moments.xz).mT @ processor
    probe = ridge_regression(inputs.double() @ representation.mT, downstream)
    reader = probe.weight @ representation
    error = moments.yy - 2 * reader @ moments.xy + reader @ moments.xx @ reader.mT
    return float(error.trace() + probe.bias.square().sum())


def c1_norm(processor: Tensor, moments: Any) -> float:
    """||F S_{xz|y}||_F, with rows of F made orthonormal in the metric S_xx."""
    root = torch.linalg.cholesky(processor @ moments.xx @ processor.mT)
    given = processor @ worlds.conditional_moment(moments)
    return float(torch.linalg.matrix_norm(torch.linalg.solve_triangular(root, given, upper=False)))


def load_images(data_dir: str | None, limit: int) -> Images:
    """Digits, or an image folder's pictures at 32 x 32 pixels; at most `limit` of each part, always the same."""
    folder = partial(worlds.ImageDataModule, "image_folder", image_size=32, num_probe_samples=limit)
    data: Any = folder(data_dir) if data_dir else worlds.DigitsDataModule()
    data.setup()
    parts: list[Tensor] = []
    for loader in (data.probe_dataloader(), data.val_dataloader()):
        images, labels = (torch.cat(column) for column in zip(*loader, strict=True))
        chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:limit]
        parts += [images[chosen], labels[chosen]]
    return tuple(parts)


def image_trial(sizes: Sizes, data_dir: str | None, seed: int) -> Rows:
    """Errors of probes on a network that learned rotations, and after boosts from there."""
    data = load_images(data_dir, sizes.num_images)
    images, labels = data[:2]
    with report.seeded(seed):
        backbone, turn_head = SmallConvNet(images.shape[1], [WIDTH, WIDTH]), nn.Linear(WIDTH, 4)
    fit(PretextSSL(backbone, turn_head, optimizer=fast_adam), [images], sizes.pretext_steps)
    start = {name: value.clone() for name, value in backbone.state_dict().items()}
    generator = torch.Generator().manual_seed(1000 + seed)
    drawn = [labels_per_class(labels, FEW_PER_CLASS, generator=generator) for _ in range(sizes.draws)]
    rows: Rows = []
    for count in sizes.labels_per_class:
        chosen = labels_per_class(labels, count, generator=torch.Generator().manual_seed(seed))
        known = torch.full_like(labels, -1)
        known[chosen] = labels[chosen]
        for lamb in (0.0, *sizes.image_lambdas):
            backbone.load_state_dict(start)
            if lamb:
                loss = BoostedLeastSquaresLoss(lamb, ridge=1e-3)
                boosted = PretextSSL(backbone, nn.Identity(), loss, num_classes=10, optimizer=fast_adam)
                fit(boosted, {"image": images, "label": known}, sizes.boost_steps)
            with torch.no_grad():
                encoded = (backbone(images), labels, backbone(data[2]), data[3])
            few, same = [image_error(encoded, draw) for draw in drawn], image_error(encoded, chosen)
            rows.append(row_of("images", seed, len(chosen) / WIDTH, lamb, few, same))
    return rows


def image_error(encoded: Images, chosen: Tensor) -> float:
    """Share of held-out images that a ridge probe on features, fitted to some labels, gets wrong."""
    features, labels, held_out, answers = encoded
    probe = ridge_regression(features[chosen], one_hot(labels[chosen], 10))
    return float((probe.predictions(held_out).argmax(1) != answers).double().mean())


def one_seed(sizes: Sizes, data_dir: str | None, seed: int) -> Rows:
    return gaussian_trial(sizes, seed) + image_trial(sizes, data_dir, seed)


# %%
def draw(found: report.Reproduction, rows: Rows) -> None:
    """Error over n0 / d_f, a line for each lambda."""
    with found.figure("boost", num_columns=2) as axes:
        for axis, data in zip(axes, ("Gaussian", "images"), strict=True):
            mine = [row for row in rows if row["data"] == data]
            ratios = sorted({row["ratio"] for row in mine})
            for lamb in sorted({row["lambda"] for row in mine}):
                values = [
                    report.seed_values(mine, "error", ratio=ratio, **{"lambda": lamb}) for ratio in ratios
                ]
                report.plot_means(axis, ratios, values, label=f"lambda = {lamb:g}" if lamb else "no boost")
            axis.set(title=data, xscale="log", xlabel="n0 / d_f", ylabel="error of a probe with few labels")
            axis.legend(fontsize=8)


def judge(rows: Rows) -> list[report.Verdict]:
    """Where the boost hurts, and where it helps: differences to no boost, seed by seed."""

    def claim(text, data, where, lambdas, key="error", **bound):
        parts = {
            f"n0 = {ratio:g} d_f, lambda {lamb:g}": report.paired_differences(
                *(
                    report.seed_values(rows, key, data=data, ratio=ratio, **{"lambda": one})
                    for one in (0.0, lamb)
                )
            )
            for ratio in sorted({row["ratio"] for row in rows if row["data"] == data})[where]
            for lamb in lambdas
        }
        return report.joint_verdict(f"{data}: {text}", parts, note="difference to no boost", **bound)

    tried = sorted({row["lambda"] for row in rows if row["data"] == "images"} - {0.0})
    few, many, two = slice(1), slice(-1, None), slice(-2, None)
    spent = "many labels do better in the probe than in a boost"
    return [
        *exact_verdicts(),
        claim("fewer labels than d_f: the boost hurts (Theorem 3)", "Gaussian", few, BELOW, above=0),
        claim("many labels: the boost helps", "Gaussian", many, BELOW, below=0),
        claim("many labels, lambda above its bound: it hurts", "Gaussian", many, [ABOVE], above=0),
        claim("many labels: f is nearer to C1 than x is", "Gaussian", many, BELOW, "c1", below=0),
        claim(spent, "Gaussian", two, BELOW, "error_same_labels", above=0),
        claim("fewer labels than d_f: the boost hurts", "images", few, tried, above=0),
        claim("many labels: the boost helps", "images", many, tried, below=0),
    ]


def exact_verdicts() -> list[report.Verdict]:
    """Theorem 2 for the closed-form minimiser, with lambda below its bound."""
    gaps = []
    for setting in ("separable", "infeasible"):
        moments = worlds.gaussian_pretext_moments(setting, generator=torch.Generator().manual_seed(0))
        best = [worlds.boosted_minimiser(moments, WIDTH, lamb) for lamb in BELOW]
        gaps.append([c1_norm(one, moments) + float(worlds.excess_risk_gap(one, moments)) for one in best])
    return [
        report.identity_verdict(
            "separable: the exact minimiser meets C1 and C2 (Theorem 2)", gaps[0], below=1e-6
        ),
        report.identity_verdict("infeasible: it misses one of them", gaps[1], above=1e-3),
    ]


def main(
    *,
    quick: bool = False,
    data_dir: str | None = None,
    output_dir: str = "runs/reproduce",
    num_seeds: int = 8,
    num_processes: int | None = None,
) -> list[report.Verdict]:
    """Boost with every number of labels and every lambda, and write table, figure and verdicts."""
    sizes = Sizes(num_images=2000) if data_dir else Sizes()
    if quick:
        sizes = Sizes(512, (0.5, 16), 15, 3, 300, (1, 8), (0.1,), 4, 3)
    trials = [(sizes, data_dir, seed) for seed in range(num_seeds)]
    table = [row for rows in report.run_trials(one_seed, trials, num_processes=num_processes) for row in rows]
    found = report.Reproduction("teng2022_pretext", output_dir)
    found.table("boost", table)
    draw(found, table)
    return found.verdicts(judge(table))


# %%
if __name__ == "__main__":
    report.run_script(
        main, quick="sizes at which nothing is decided", data_dir="a folder of images", num_seeds="trainings"
    )
