"""Teng, Huang, He 2022: when downstream labels boost pretext learning, and when they hurt it.

    python examples/reproduce/teng2022_pretext.py [--quick] [--data-dir FOLDER]

A processor f is trained with n0 downstream labels on E||y - W* f||^2 - lambda E||z - W* f||^2, then pretext learning
goes on from it, and a linear probe with few other labels reads the downstream target. On Gaussian data, where all is
known in closed form, and with rotations as the pretext, on scikit-learn's digits or on a folder of images
(train/<class>/*, test/<class>/*). Some minutes on two cores.
"""

# %%
import warnings
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader

from lightning_ssl_theory import PretextSSL
from lightning_ssl_theory.data import (
    DigitsDataModule,
    GaussianPretextDataModule,
    ImageDataModule,
    PretextMoments,
    boosted_minimiser,
    conditional_moment,
    excess_risk_gap,
    gaussian_pretext_moments,
)
from lightning_ssl_theory.losses import BoostedLeastSquaresLoss
from lightning_ssl_theory.metrics import conditional_covariance
from lightning_ssl_theory.networks import SmallConvNet
from lightning_ssl_theory.probes import labels_per_class, ridge_regression
from lightning_ssl_theory.report import (
    Reproduction,
    Verdict,
    identity_verdict,
    joint_verdict,
    paired_differences,
    plot_means,
    quiet_trainer,
    run_script,
    run_trials,
    seed_values,
    seeded,
)

WIDTH, FEW = 16, 16  # d_f; labels of the probe that comes after the boost
BELOW, ABOVE = (0.05, 0.3), 3.0  # weights lambda, below and above the bound, which is 1 in the Gaussian world

Rows = list[dict[str, Any]]


class Sizes(NamedTuple):
    """What --quick makes small."""

    num_samples: int = 2048
    ratios: tuple[float, ...] = (0.5, 1, 2, 4, 16, 64)  # n0 / d_f
    iterations: int = 60
    draws: int = 10
    num_images: int = 600
    labels_per_class: tuple[int, ...] = (1, 4, 16, 40)
    image_lambdas: tuple[float, ...] = (0.1, 1.0)
    pretext_steps: int = 60
    boost_steps: int = 40


# %%
def gaussian_trial(sizes: Sizes, seed: int) -> Rows:
    """Errors of a probe after boosts with every number of labels and every lambda, and without one."""
    rows: Rows = []
    for ratio in sizes.ratios:
        num_labels = round(ratio * WIDTH)
        count, options = sizes.num_samples, {"seed": seed, "num_labels": num_labels}
        world = GaussianPretextDataModule("separable", num_samples=count, batch_size=count, **options)
        found = {0.0: torch.eye(len(world.moments.xx)).double()}
        found |= {lamb: trained_processor(world, lamb, sizes.iterations, seed) for lamb in (*BELOW, ABOVE)}
        batch = next(iter(world.train_dataloader()))
        known = batch["label"] >= 0
        for lamb, processor in found.items():
            generator = torch.Generator().manual_seed(1000 + seed)
            draws = [world.draw(FEW, generator=generator) for _ in range(sizes.draws)]
            few = [probe_error(processor, world.moments, one.inputs, one.downstream) for one in draws]
            same = probe_error(processor, world.moments, batch["image"][known], batch["downstream"][known])
            rows.append(
                {"data": "Gaussian", "seed": seed, "ratio": ratio, "lambda": lamb}
                | {"error": sum(few) / len(few), "error_same_labels": same}
                | {"c2_gap": float(excess_risk_gap(processor, world.moments))}
                | {"c1": c1_norm(processor, world.moments)}
            )
    return rows


def trained_processor(world: GaussianPretextDataModule, lamb: float, iterations: int, seed: int) -> Tensor:
    """F, shape (d_f, D), after full-batch steps on the boosted loss."""
    with seeded(seed):
        backbone = nn.Linear(len(world.moments.xx), WIDTH, bias=False)
    optimizer = partial(torch.optim.LBFGS, max_iter=iterations, line_search_fn="strong_wolfe")
    module = PretextSSL(
        backbone, nn.Identity(), BoostedLeastSquaresLoss(lamb), pretext="target", optimizer=optimizer
    )
    fit(module, world.train_dataloader(), 1)
    return backbone.weight.detach().double()


def fit(module: PretextSSL, loader: DataLoader, num_steps: int) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The boosted loss has")  # few labels are the point here
        quiet_trainer(max_steps=num_steps, max_epochs=-1, limit_val_batches=0).fit(module, loader)


def pretext_reader(processor: Tensor, moments: PretextMoments) -> Tensor:
    """W* F: what pretext learning makes of the processor's outputs, with no end of samples, shape (K, D)."""
    inner = processor @ moments.xx @ processor.mT
    return (torch.linalg.pinv(inner, rtol=1e-10, hermitian=True) @ processor @ moments.xz).mT @ processor


def probe_error(processor: Tensor, moments: PretextMoments, inputs: Tensor, downstream: Tensor) -> float:
    """Exact E||y - y_hat||^2 of a ridge probe on the pretext's features, fitted to some labels."""
    representation = pretext_reader(processor, moments)
    probe = ridge_regression(inputs.double() @ representation.mT, downstream)
    reader = probe.weight @ representation
    error = moments.yy - 2 * reader @ moments.xy + reader @ moments.xx @ reader.mT
    return float(error.trace() + probe.bias.square().sum())


def c1_norm(processor: Tensor, moments: PretextMoments) -> float:
    """||F S_{xz|y}||_F, with rows of F made orthonormal in the metric S_xx."""
    root = torch.linalg.cholesky(processor @ moments.xx @ processor.mT)
    given = torch.linalg.solve_triangular(root, processor @ conditional_moment(moments), upper=False)
    return float(torch.linalg.matrix_norm(given))


# %%
class Images(NamedTuple):
    """Clean images and labels, for training and held out."""

    train: Tensor
    labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor


def load_images(data_dir: str | None, limit: int) -> Images:
    """Digits, or an image folder's pictures at 32 x 32 pixels; at most `limit` of each part, the same ones always."""
    data: Any = DigitsDataModule()
    if data_dir:
        data = ImageDataModule("image_folder", data_dir, image_size=32, num_probe_samples=limit)
    data.setup()
    parts: list[Tensor] = []
    for loader in (data.probe_dataloader(), data.val_dataloader()):
        images, labels = (torch.cat(column) for column in zip(*loader, strict=True))
        chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:limit]
        parts += [images[chosen], labels[chosen]]
    return Images(*parts)


def image_trial(sizes: Sizes, data_dir: str | None, seed: int) -> Rows:
    """Errors of probes on a network that learned rotations, and after boosts from there."""
    data = load_images(data_dir, sizes.num_images)
    with seeded(seed):
        backbone = SmallConvNet(data.train.shape[1], [WIDTH, WIDTH])
        turn_head = nn.Linear(WIDTH, 4)
    loader = DataLoader([{"image": data.train, "label": data.labels}], batch_size=None)
    fit(PretextSSL(backbone, turn_head, optimizer=fast_adam), loader, sizes.pretext_steps)
    start = {name: value.clone() for name, value in backbone.state_dict().items()}
    rows: Rows = []
    for count in sizes.labels_per_class:
        chosen = labels_per_class(data.labels, count, generator=torch.Generator().manual_seed(seed))
        known = torch.full_like(data.labels, -1)
        known[chosen] = data.labels[chosen]
        partly = DataLoader([{"image": data.train, "label": known}], batch_size=None)
        for lamb in (0.0, *sizes.image_lambdas):
            backbone.load_state_dict(start)
            if lamb:
                loss, num_classes = BoostedLeastSquaresLoss(lamb, ridge=1e-3), int(data.labels.max()) + 1
                module = PretextSSL(
                    backbone, nn.Identity(), loss, num_classes=num_classes, optimizer=fast_adam
                )
                fit(module, partly, sizes.boost_steps)
            draws = [
                labels_per_class(data.labels, 2, generator=torch.Generator().manual_seed(1000 * seed + draw))
                for draw in range(sizes.draws)
            ]
            few = [image_error(backbone, data, draw) for draw in draws]
            rows.append(
                {"data": "images", "seed": seed, "ratio": len(chosen) / WIDTH, "lambda": lamb}
                | {
                    "error": sum(few) / len(few),
                    "error_same_labels": image_error(backbone, data, chosen),
                }
            )
    return rows


fast_adam = partial(torch.optim.Adam, lr=1e-2)


@torch.no_grad()
def image_error(backbone: nn.Module, data: Images, chosen: Tensor) -> float:
    """Share of held-out images that a ridge probe, fitted to some labels, gets wrong."""
    codes = one_hot(data.labels[chosen], int(data.labels.max()) + 1).double()
    probe = ridge_regression(backbone(data.train[chosen]), codes)
    found = probe.predictions(backbone(data.held_out)).argmax(1)
    return float((found != data.held_out_labels).double().mean())


# %%
def draw(found: Reproduction, rows: Rows) -> None:
    """Error over n0 / d_f, a line for each lambda."""
    with found.figure("boost", num_columns=2) as axes:
        for axis, data in zip(axes, ("Gaussian", "images"), strict=True):
            mine = [row for row in rows if row["data"] == data]
            ratios = sorted({row["ratio"] for row in mine})
            for lamb in sorted({row["lambda"] for row in mine}):
                values = [seed_values(mine, "error", ratio=ratio, **{"lambda": lamb}) for ratio in ratios]
                plot_means(axis, ratios, values, label=f"lambda = {lamb:g}" if lamb else "no boost")
            axis.axvline(1, color="#8d939c", ls=":")
            axis.set(title=data, xscale="log", xlabel="n0 / d_f", ylabel="error of a probe with few labels")
            axis.legend(fontsize=8)


def judge(rows: Rows) -> list[Verdict]:
    """Where the boost hurts, and where it helps: differences to no boost, seed by seed."""

    def differences(data: str, ratio: float, lambdas: Any, key: str = "error") -> dict[str, list[float]]:
        plain = seed_values(rows, key, data=data, ratio=ratio, **{"lambda": 0.0})
        return {
            f"lambda {lamb:g}, n0 = {ratio:g} d_f": paired_differences(
                plain, seed_values(rows, key, data=data, ratio=ratio, **{"lambda": lamb})
            )
            for lamb in lambdas
        }

    def ends(data: str) -> tuple[float, float]:
        ratios = [row["ratio"] for row in rows if row["data"] == data]
        return min(ratios), max(ratios)

    (few, many), (few_images, many_images) = ends("Gaussian"), ends("images")
    image_lambdas = sorted({row["lambda"] for row in rows if row["data"] == "images"} - {0.0})
    every = {row["ratio"] for row in rows if row["data"] == "Gaussian"}
    same = {
        name: values
        for ratio in sorted(every)
        for name, values in differences("Gaussian", ratio, BELOW, "error_same_labels").items()
    }
    hurts, helps = {"above": 0.0, "note": "error with less without boost"}, {"below": 0.0, "note": "likewise"}
    return [
        *closed_form_verdicts(),
        joint_verdict("Gaussian: few labels hurt (Theorem 3)", differences("Gaussian", few, BELOW), **hurts),
        joint_verdict("Gaussian: many labels help", differences("Gaussian", many, BELOW), **helps),
        joint_verdict(
            "Gaussian: many labels, lambda above its bound: hurts",
            differences("Gaussian", many, [ABOVE]),
            **hurts,
        ),
        joint_verdict(
            "Gaussian: many labels bring the trained f nearer to C1 than x is",
            differences("Gaussian", many, BELOW, "c1"),
            below=0,
        ),
        joint_verdict(
            "Gaussian: the n0 labels, spent on the probe itself, do better than boost and probe",
            same,
            **hurts,
        ),
        joint_verdict("Images: few labels hurt", differences("images", few_images, image_lambdas), **hurts),
        joint_verdict("Images: many labels help", differences("images", many_images, image_lambdas), **helps),
    ]


def closed_form_verdicts() -> list[Verdict]:
    """Theorem 2 for the exact minimiser, below the bound on lambda."""
    generator = torch.Generator().manual_seed(0)
    gaps: dict[str, float] = {}
    for setting in ("separable", "infeasible"):
        moments = gaussian_pretext_moments(setting, generator=generator)
        processors = [boosted_minimiser(moments, WIDTH, lamb) for lamb in BELOW]
        gaps[setting] = max(
            max(c1_norm(one, moments), float(excess_risk_gap(one, moments))) for one in processors
        )
    met = "the exact minimiser meets C1 and C2 (Theorem 2)"
    return [
        identity_verdict(f"separable world: {met}", [gaps["separable"]], below=1e-6),
        identity_verdict(f"infeasible world: not: {met}", [gaps["infeasible"]], above=1e-3, paper="in words"),
    ]


# %%
def main(
    *,
    quick: bool = False,
    data_dir: str | None = None,
    output_dir: str = "runs/reproduce",
    num_seeds: int = 5,
    num_processes: int | None = None,
) -> list[Verdict]:
    """Boost with every number of labels and every lambda, and write table, figure and verdicts."""
    sizes = Sizes(num_images=5000, labels_per_class=(1, 4, 16, 64)) if data_dir else Sizes()
    if quick:
        sizes = Sizes(512, (0.5, 16), 15, 3, 300, (1, 8), (0.1,), 4, 3)
    rows = [
        row
        for function, trials in (
            (gaussian_trial, [(sizes, seed) for seed in range(num_seeds)]),
            (image_trial, [(sizes, data_dir, seed) for seed in range(num_seeds)]),
        )
        for found in run_trials(function, trials, num_processes=num_processes)
        for row in found
    ]
    found = Reproduction("teng2022_pretext", output_dir)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    found.table("boost", [{key: row.get(key, "") for key in columns} for row in rows])
    draw(found, rows)
    return found.verdicts(judge(rows))


# %%
if __name__ == "__main__":
    run_script(
        main,
        quick="sizes at which nothing is decided",
        data_dir="folder with train/<class>/* and test/<class>/*",
        num_seeds="trainings of every setting",
        num_processes="1 for no others; by default one a core",
    )
