"""Tian, Yu, Chen, Ganguli 2020, Section 4: three contrastive losses and what drives them, on images.

    python examples/reproduce/tian2020_losses.py [--full] [--mnist DATA_DIR]

Trains one network with the simple, the soft triplet and the InfoNCE loss, and with a term of weight beta that pulls
the views of a sample together, and shows probe accuracy, the covariance operators and how much of the true gradient
they explain. scikit-learn's digits by default: half a minute on two cores; --mnist
takes MNIST, on which all claims hold: twelve minutes.
"""

# %%
import argparse
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import nn

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import CovarianceOperators, LinearProbe
from lightning_ssl_theory.data import DigitsDataModule, ImageDataModule
from lightning_ssl_theory.losses import InfoNCELoss, SimpleContrastiveLoss, SoftTripletLoss
from lightning_ssl_theory.networks import MLP
from lightning_ssl_theory.report import Reproduction, Verdict, run_trials

LOSSES = {
    "simple": partial(SimpleContrastiveLoss, distance="cosine"),
    "soft triplet": partial(SoftTripletLoss, 0.5, 1.0, distance="cosine"),
    "InfoNCE": partial(InfoNCELoss, 0.5),
}
BETAS = (-0.5, 0.0, 0.5, 2.0)
LAYERS = ("backbone.linear_1", "backbone.linear_2", "projector.linear_1")
FEW = 5  # labels a class


class Setting(NamedTuple):
    """What is varied."""

    loss: str = "InfoNCE"
    beta: float = 0.0


class FirstLook(Callback):
    """What a diagnostic saw before training."""

    def __init__(self, diagnostic: CovarianceOperators) -> None:
        self.diagnostic = diagnostic
        self.values: dict[str, float] = {}

    def on_train_batch_end(self, *args: Any) -> None:
        if not self.values:
            self.values = dict(self.diagnostic.values)


Run = tuple[dict[str, float], dict[str, float]]  # values before and after training, by key


# %%
def image_data(mnist: str | None, seed: int) -> tuple[LightningDataModule, int]:
    """Views of images, and the number of their pixels."""
    if mnist:
        return ImageDataModule("mnist", mnist, batch_size=256, seed=seed), 28 * 28
    return DigitsDataModule(seed=seed), 64


def train(setting: Setting, seed: int, max_steps: int, mnist: str | None) -> Run:
    """One run."""
    data, num_pixels = image_data(mnist, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, projector = MLP([num_pixels, 256, 64], bias=False), MLP([64, 64, 32], bias=False)
    loss = LOSSES[setting.loss](beta=setting.beta)
    module = ContrastiveSSL(
        network, projector, loss, optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    )
    covariance = CovarianceOperators(list(LAYERS), every_n_steps=max_steps, num_probes=8)
    first = FirstLook(covariance)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        max_epochs=-1,
        callbacks=[covariance, first],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    before = probed(module, data)
    trainer.fit(module, datamodule=data)
    return before | first.values, probed(module, data) | covariance.values


def probed(module: nn.Module, data: LightningDataModule) -> dict[str, float]:
    """Accuracy of linear probes on the backbone as it is now."""
    probe = LinearProbe("backbone", few_labels=(FEW,))
    Trainer(
        accelerator="cpu",
        callbacks=[probe],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).validate(module, datamodule=data, verbose=False)
    return dict(probe.values)


# %%
def mean_of(runs: list[Run], when: int, key: str) -> float:
    """Mean over the seeds of one value, before (0) or after (1) training."""
    return sum(run[when][key] for run in runs) / len(runs)


ALL_LABELS, FEW_LABELS = "probe/backbone/logistic_top1", f"probe/backbone/logistic_top1_{FEW}_labels"


def rows_of(results: dict[Setting, list[Run]]) -> list[dict[str, Any]]:
    """One row a setting and layer."""
    return [
        setting._asdict()
        | {"layer": layer, "seeds": len(runs)}
        | {
            f"{name}_{moment}": float(f"{mean_of(runs, when, f'covariance/{layer}/{name}'):.4g}")
            for name in ("trace", "signal_ratio", "residual", "cosine")
            for when, moment in enumerate(("before", "after"))
        }
        | {
            f"{name}_{moment}": round(mean_of(runs, when, key), 4)
            for name, key in (("accuracy", ALL_LABELS), (f"accuracy_{FEW}_labels", FEW_LABELS))
            for when, moment in enumerate(("before", "after"))
        }
        for setting, runs in results.items()
        for layer in LAYERS
    ]


def draw(reproduction: Reproduction, results: dict[Setting, list[Run]]) -> None:
    """Accuracy, traces and residuals by loss; accuracy and signal share by beta."""
    plain = [Setting(loss) for loss in LOSSES]
    betas = [Setting(beta=beta) for beta in BETAS]
    with reproduction.figure("losses", num_columns=3) as axes:
        positions = range(len(plain))
        for offset, (key, label) in enumerate(
            ((ALL_LABELS, "all labels"), (FEW_LABELS, f"{FEW} labels a class"))
        ):
            for when, colour in enumerate(("#c5c9cf", ("#2f6db5", "#d9741f")[offset])):
                heights = [mean_of(results[setting], when, key) for setting in plain]
                places = [position + 0.2 * (2 * offset + when) for position in positions]
                axes[0].bar(
                    places, heights, 0.18, color=colour, label=f"{label}, {('before', 'after')[when]}"
                )
        axes[0].set(title="Linear probe", ylabel="accuracy", ylim=(0, 1.35))
        axes[0].set_xticks([position + 0.3 for position in positions], [setting.loss for setting in plain])
        axes[0].set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes[0].legend(ncols=2, loc="upper center", fontsize=8)
        for layer in LAYERS:
            traces = [mean_of(results[setting], 1, f"covariance/{layer}/trace") for setting in plain]
            axes[1].plot(positions, traces, "o", label=layer)
            shares = [mean_of(results[setting], 1, f"covariance/{layer}/signal_ratio") for setting in betas]
            axes[2].plot(BETAS, shares, "o-", label=layer)
        axes[1].set(title="Operators after training", ylabel="trace", yscale="log")
        axes[1].set_xticks(positions, [setting.loss for setting in plain])
        axes[1].margins(x=0.2)
        axes[1].yaxis.set_major_formatter("{x:g}")
        axes[1].yaxis.set_minor_formatter("{x:g}")
        axes[1].legend()
        axes[2].set(title="InfoNCE with a beta term", xlabel="beta", ylabel="signal share of the trace")
        axes[2].legend(loc="lower left", bbox_to_anchor=(0, 0.08))


def judge(results: dict[Setting, list[Run]]) -> list[Verdict]:
    """The claims, with what was measured here."""

    def worst(setting: Setting, quantity: str, pick: Any) -> float:
        keys = [f"covariance/{layer}/{quantity}" for layer in LAYERS]
        return pick(run[when][key] for run in results[setting] for when in (0, 1) for key in keys)

    plain = [Setting(loss) for loss in LOSSES]
    gains = [mean_of(results[s], 1, FEW_LABELS) - mean_of(results[s], 0, FEW_LABELS) for s in plain]
    shares = [
        sum(mean_of(results[Setting(beta=beta)], 1, f"covariance/{layer}/signal_ratio") for layer in LAYERS)
        / len(LAYERS)
        for beta in BETAS
    ]
    exact, with_beta = (worst(Setting("simple", beta), "residual", max) for beta in (0.0, 0.5))
    cosines = [worst(setting, "cosine", min) for setting in plain[1:]]
    residuals = [worst(setting, "residual", max) for setting in plain[1:]]
    return [
        Verdict(
            "Thm 3: the operator gives the gradient of L_simp",
            "exactly",
            f"residual {exact:.0e} or less",
            exact < 1e-3,
        ),
        Verdict(
            "A term of weight beta adds 2 beta OP^aug w to it: L_simp at beta 0.5",
            "exactly",
            f"residual {with_beta:.0e} or less",
            with_beta < 1e-3,
        ),
        Verdict(
            "The weighted operator points along the gradients of L_tri and L_nce: cosine > 0.9",
            "Thm 4: up to the augmentation, for one negative",
            f"cosine {min(cosines):.3f} or more, residual {max(residuals):.2f} or less",
            min(cosines) > 0.9,
        ),
        Verdict(
            f"All three losses learn: accuracy with {FEW} labels a class rises",
            "in words",
            ", ".join(f"{gain:+.3f}" for gain in gains),
            min(gains) > 0,
        ),
        Verdict(
            "A larger beta leaves less of the augmentation: the signal share rises",
            "in words",
            ", ".join(f"{share:.3f}" for share in shares) + f" at beta {', '.join(map(str, BETAS))}",
            all(a < b for a, b in pairwise(shares)),
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
    num_seeds, max_steps = num_seeds or (10 if full else 3), max_steps or (2000 if full else 200)
    settings = [*(Setting(loss) for loss in LOSSES), *(Setting(beta=beta) for beta in BETAS)]
    settings += [Setting("simple", 0.5)]
    trials = [
        (setting, seed, max_steps, mnist) for setting in dict.fromkeys(settings) for seed in range(num_seeds)
    ]
    results: dict[Setting, list[Run]] = {}
    for (setting, *_), run in zip(
        trials, run_trials(train, trials, num_processes=num_processes), strict=True
    ):
        results.setdefault(setting, []).append(run)
    reproduction = Reproduction("tian2020_losses", output_dir)
    reproduction.table("losses", rows_of(results))
    draw(reproduction, results)
    verdicts = judge(results)
    reproduction.verdicts(verdicts)
    return verdicts


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="ten seeds, ten times the steps")
    parser.add_argument("--mnist", metavar="DATA_DIR", help="the folder that holds MNIST")
    parser.add_argument("--output-dir", default="runs/reproduce")
    arguments = parser.parse_args()
    main(full=arguments.full, mnist=arguments.mnist, output_dir=arguments.output_dir)
