"""Tian, Yu, Chen, Ganguli 2020, Section 4: three contrastive losses and what drives them, on images.

    python examples/reproduce/tian2020_losses.py [--full] [--mnist DATA_DIR]

Trains one network with the simple, the soft triplet and the InfoNCE loss, and with a term of weight beta that pulls
the views of a sample together, and shows probe accuracy, the covariance operators and how much of the true gradient
they explain. scikit-learn's digits by default: a minute on two cores; --mnist takes MNIST: some twenty minutes.
"""

# %%
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import nn

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import CovarianceOperators, LinearProbe
from lightning_ssl_theory.data import DigitsDataModule, ImageDataModule
from lightning_ssl_theory.losses import InfoNCELoss, SimpleContrastiveLoss, SoftTripletLoss
from lightning_ssl_theory.networks import MLP
from lightning_ssl_theory.report import (
    History,
    Reproduction,
    Verdict,
    identity_verdict,
    increase_verdict,
    joint_verdict,
    paired_differences,
    plot_means,
    quiet_trainer,
    run_script,
    run_trials,
    seed_mean,
    seeded,
)

LOSSES = {
    "simple": partial(SimpleContrastiveLoss, distance="cosine"),
    "soft triplet": partial(SoftTripletLoss, 0.5, 1.0, distance="cosine"),
    "InfoNCE": partial(InfoNCELoss, 0.5),
}
BETAS = (-0.5, 0.0, 0.5, 2.0)
LAYERS = ("backbone.linear_1", "backbone.linear_2", "projector.linear_1")
FEW = 5  # labels a class
ALL_LABELS, FEW_LABELS = "probe/backbone/logistic_top1", f"probe/backbone/logistic_top1_{FEW}_labels"
MOMENTS = ("before", "after")


class Setting(NamedTuple):
    """What is varied."""

    loss: str = "InfoNCE"
    beta: float = 0.0


Run = tuple[dict[str, float], dict[str, float]]  # values before and after training, by key
Results = dict[Setting, list[Run]]


# %%
def plain() -> list[Setting]:
    return [Setting(loss) for loss in LOSSES]


def with_beta() -> list[Setting]:
    return [Setting(beta=beta) for beta in BETAS]


def image_data(mnist: str | None, seed: int) -> tuple[LightningDataModule, int]:
    """Views of images, and the number of their pixels."""
    if mnist:
        return ImageDataModule("mnist", mnist, batch_size=256, seed=seed), 28 * 28
    return DigitsDataModule(seed=seed), 64


def train(setting: Setting, seed: int, max_steps: int, mnist: str | None) -> Run:
    """One run."""
    data, num_pixels = image_data(mnist, seed)
    with seeded(seed):
        network, projector = MLP([num_pixels, 256, 64], bias=False), MLP([64, 64, 32], bias=False)
    loss = LOSSES[setting.loss](beta=setting.beta)
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    module = ContrastiveSSL(network, projector, loss, optimizer=optimizer)
    covariance = CovarianceOperators(list(LAYERS), every_n_steps=max_steps, num_probes=8)
    looks = History(lambda *_: dict(covariance.values), steps=(0, max_steps))
    probes = [probed(module, data)]
    trainer = quiet_trainer(covariance, looks, max_steps=max_steps, max_epochs=-1, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    probes.append(probed(module, data))
    before, after = (seen | scores for seen, scores in zip(looks.looks, probes, strict=True))
    return before, after


def probed(module: nn.Module, data: LightningDataModule) -> dict[str, float]:
    """Accuracy of linear probes on the backbone as it is now."""
    probe = LinearProbe("backbone", few_labels=(FEW,))
    quiet_trainer(probe).validate(module, datamodule=data, verbose=False)
    return dict(probe.values)


# %%
def of_layer(layer: str, quantity: str) -> str:
    return f"covariance/{layer}/{quantity}"


def seen(runs: list[Run], when: int, key: str) -> list[float]:
    """One value for each seed, before (0) or after (1) training."""
    return [run[when][key] for run in runs]


def rows_of(results: Results) -> list[dict[str, Any]]:
    """One row a setting and layer, of means over the seeds."""
    accuracies = {"accuracy": ALL_LABELS, f"accuracy_{FEW}_labels": FEW_LABELS}
    return [
        setting._asdict()
        | {"layer": layer, "seeds": len(runs)}
        | {
            f"{name}_{moment}": float(f"{seed_mean(seen(runs, when, key)).value:.4g}")
            for name, key in (
                *((name, of_layer(layer, name)) for name in ("trace", "signal_ratio", "residual", "cosine")),
                *accuracies.items(),
            )
            for when, moment in enumerate(MOMENTS)
        }
        for setting, runs in results.items()
        for layer in LAYERS
    ]


def draw(found: Reproduction, results: Results) -> None:
    """Accuracy, traces and signal shares: by loss, and by beta."""
    places, names = range(len(plain())), list(LOSSES)
    with found.figure("losses", num_columns=3) as (accuracy, traces, shares):
        for colour, (key, label) in enumerate(
            ((ALL_LABELS, "all labels"), (FEW_LABELS, f"{FEW} labels a class"))
        ):
            for when, moment in enumerate(MOMENTS):
                values = [seen(results[setting], when, key) for setting in plain()]
                style = {"color": f"C{colour}", "marker": "os"[when], "alpha": (0.45, 1)[when]}
                plot_means(accuracy, places, values, label=f"{label}, {moment}", ls="", **style)
        for layer in LAYERS:
            of_loss = [seen(results[setting], 1, of_layer(layer, "trace")) for setting in plain()]
            plot_means(traces, places, of_loss, label=layer, ls="")
            of_beta = [seen(results[setting], 1, of_layer(layer, "signal_ratio")) for setting in with_beta()]
            plot_means(shares, BETAS, of_beta, label=layer)
        for axis in (accuracy, traces):
            axis.set_xticks(places, names)
            axis.margins(x=0.2)
        accuracy.set(title="Linear probe", ylabel="accuracy", ylim=(None, 1.15))
        accuracy.set_yticks([tick for tick in accuracy.get_yticks() if tick < 1.01])  # room for the legend
        traces.set_yscale("log", subs=(2, 5))
        traces.set(title="Operators after training", ylabel="trace")
        shares.set(title="InfoNCE with a beta term", xlabel="beta", ylabel="signal share of the trace")
        traces.yaxis.set_major_formatter("{x:g}")
        traces.yaxis.set_minor_formatter("{x:g}")
        for axis, place in ((accuracy, "upper left"), (traces, "upper center"), (shares, "lower left")):
            axis.legend(fontsize=8, loc=place, bbox_to_anchor=(0, 0.12) if axis is shares else None)


def judge(results: Results) -> list[Verdict]:
    """The claims, with what was measured here."""

    def all_looks(run: Run, quantity: str) -> list[float]:
        return [values[of_layer(layer, quantity)] for layer in LAYERS for values in run]

    def residuals(beta: float) -> list[float]:
        return [value for run in results[Setting("simple", beta)] for value in all_looks(run, "residual")]

    def share(setting: Setting) -> list[float]:
        """Mean over the layers, for each seed."""
        by_layer = [seen(results[setting], 1, of_layer(layer, "signal_ratio")) for layer in LAYERS]
        return [sum(values) / len(values) for values in zip(*by_layer, strict=True)]

    return [
        identity_verdict("Thm 3: the operator gives the gradient of L_simp", residuals(0.0), below=1e-3),
        identity_verdict(
            "A term of weight beta adds 2 beta OP^aug w to it: L_simp at beta 0.5", residuals(0.5), below=1e-3
        ),
        joint_verdict(
            "The weighted operator points along the gradients of L_tri and L_nce: cosine > 0.9",
            {s.loss: [min(all_looks(run, "cosine")) for run in results[s]] for s in plain()[1:]},
            above=0.9,
            paper="Thm 4: up to the augmentation, for one negative",
            note="cosine in the worst layer, before or after training",
        ),
        joint_verdict(
            f"All three losses learn: accuracy with {FEW} labels a class rises",
            {
                s.loss: paired_differences(*(seen(results[s], when, FEW_LABELS) for when in (0, 1)))
                for s in plain()
            },
            above=0,
        ),
        increase_verdict(
            "A larger beta leaves less of the augmentation: the signal share rises",
            {f"beta {setting.beta}": share(setting) for setting in with_beta()},
        ),
    ]


# %%
def main(
    *,
    full: bool = False,
    mnist: str | None = None,
    output_dir: str = "runs/reproduce",
    num_seeds: int | None = None,
    max_steps: int | None = None,
    num_processes: int | None = None,
) -> list[Verdict]:
    """Train with all losses, and write the table, the figure and the verdicts."""
    seeds, max_steps = range(num_seeds or (10 if full else 5)), max_steps or (2000 if full else 200)
    settings = dict.fromkeys([*plain(), *with_beta(), Setting("simple", 0.5)])
    trials = [(setting, seed, max_steps, mnist) for setting in settings for seed in seeds]
    results: Results = {setting: [] for setting in settings}
    for (setting, *_), run in zip(
        trials, run_trials(train, trials, num_processes=num_processes), strict=True
    ):
        results[setting].append(run)
    found = Reproduction("tian2020_losses", output_dir)
    found.table("losses", rows_of(results))
    draw(found, results)
    return found.verdicts(judge(results))


# %%
if __name__ == "__main__":
    run_script(
        main,
        full="ten seeds, ten times the steps",
        mnist="the folder that holds MNIST",
        num_seeds="first weights and views",
    )
