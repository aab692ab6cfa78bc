"""Tian, Yu, Chen, Ganguli 2020, on BYOL: what keeps a network from collapse that never sees a negative.

    python examples/reproduce/tian2020_byol.py [--quick] [--mnist DATA_DIR]

Trains BYOL with and without BatchNorm in projector and predictor, with and without a moving average (EMA) as target,
without the predictor and without the stop-gradient, and shows probe accuracy, effective rank and covariance operators
before and after. scikit-learn's digits by default, three minutes of one core; --mnist takes MNIST.
"""

# %%
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import nn

from lightning_ssl_theory import PredictorSSL
from lightning_ssl_theory.callbacks import CollapseMonitor, CovarianceOperators, LinearProbe
from lightning_ssl_theory.data import DigitsDataModule, ImageDataModule
from lightning_ssl_theory.networks import MLP
from lightning_ssl_theory.report import (
    History,
    Reproduction,
    Verdict,
    joint_verdict,
    paired_differences,
    plot_means,
    quiet_trainer,
    run_script,
    run_trials,
    seed_mean,
    seeded,
)

EMA = 0.99
FEW = 5  # labels a class
ACCURACY = f"probe/backbone/logistic_top1_{FEW}_labels"
RANK = "collapse/projector/effective_rank"
LAYER = "projector.linear_1"
NUM_LOOKS = 10
COLLAPSED = 1.1  # effective rank


class Setting(NamedTuple):
    """What is varied."""

    batch_norm: bool = True
    ema: bool = True
    predictor: bool = True
    stop_gradient: bool = True


SETTINGS = {
    "BYOL": Setting(),
    "no EMA": Setting(ema=False),
    "no BatchNorm": Setting(batch_norm=False),
    "no BatchNorm, no EMA": Setting(batch_norm=False, ema=False),
    "no predictor": Setting(predictor=False),
    "no predictor, no EMA": Setting(ema=False, predictor=False),
    "no stop-gradient": Setting(ema=False, stop_gradient=False),
}
Run = list[dict[str, float]]  # values by key: before training, along it, at its end
Results = dict[str, list[Run]]


# %%
def image_data(mnist: str | None, seed: int) -> tuple[LightningDataModule, int]:
    """Views of images, and the number of their pixels."""
    if mnist:
        return ImageDataModule("mnist", mnist, batch_size=256, seed=seed), 28 * 28
    return DigitsDataModule(seed=seed), 64


def byol(setting: Setting, num_pixels: int) -> PredictorSSL:
    """BYOL, or what is left of it."""
    return PredictorSSL(
        MLP([num_pixels, 256, 64]),
        MLP([64, 128, 32], batch_norm=setting.batch_norm),
        MLP([32, 64, 32], batch_norm=setting.batch_norm) if setting.predictor else nn.Identity(),
        ema=EMA if setting.ema else None,
        stop_gradient=setting.stop_gradient,
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4),
    )


def train(setting: Setting, seed: int, max_steps: int, mnist: str | None) -> Run:
    """One run."""
    data, num_pixels = image_data(mnist, seed)
    with seeded(seed):
        module = byol(setting, num_pixels)
    every = max(max_steps // NUM_LOOKS, 1)
    collapse = CollapseMonitor(["backbone", "projector"], every_n_steps=every)
    covariance = CovarianceOperators([LAYER], every_n_steps=every, num_probes=4)
    looks = History(lambda *_: collapse.values | covariance.values, steps=range(0, max_steps + 1, every))
    before = probed(module, data)
    trainer = quiet_trainer(
        collapse, covariance, looks, max_steps=max_steps, max_epochs=-1, limit_val_batches=0
    )
    trainer.fit(module, datamodule=data)
    looks.looks[0] |= before
    looks.looks[-1] |= probed(module, data)
    return looks.looks


def probed(module: nn.Module, data: LightningDataModule) -> dict[str, float]:
    """Accuracy of linear probes on the backbone as it is now."""
    probe = LinearProbe("backbone", few_labels=(FEW,))
    quiet_trainer(probe).validate(module, datamodule=data, verbose=False)
    return dict(probe.values)


# %%
def seen(runs: list[Run], when: int, key: str) -> list[float]:
    """One value for each seed, before (0) or after (-1) training."""
    return [run[when][key] for run in runs]


def gains(runs: list[Run]) -> list[float]:
    """What training has added to the accuracy, seed by seed."""
    return paired_differences(*(seen(runs, when, ACCURACY) for when in (0, -1)))


def rows_of(results: Results) -> list[dict[str, Any]]:
    """One row a setting, of means over the seeds."""
    keys = {
        "accuracy": ACCURACY,
        "rank_projections": RANK,
        "rank_features": "collapse/backbone/effective_rank",
        "signal_ratio": f"covariance/{LAYER}/signal_ratio",
    }
    return [
        {"setting": name, **SETTINGS[name]._asdict(), "seeds": len(runs)}
        | {
            f"{quantity}_{moment}": float(f"{seed_mean(seen(runs, when, key)).value:.4g}")
            for quantity, key in keys.items()
            for moment, when in {"before": 0, "after": -1}.items()
        }
        for name, runs in results.items()
    ]


def draw(found: Reproduction, results: Results, max_steps: int) -> None:
    """Accuracy before and after, and the effective rank on the way."""
    with found.figure("byol", num_columns=2) as (accuracy, ranks):
        for when, moment, aside in ((0, "before", -0.12), (-1, "after", 0.12)):
            places = [place + aside for place in range(len(results))]
            values = [seen(runs, when, ACCURACY) for runs in results.values()]
            plot_means(accuracy, places, values, label=moment, ls="")
        accuracy.set_xticks(range(len(results)), list(results), rotation=30, ha="right", fontsize=8)
        accuracy.set(title="Linear probe on the backbone", ylabel=f"accuracy, {FEW} labels a class")
        for name, runs in results.items():
            num_looks = min(map(len, runs))
            steps = [max_steps * look / (num_looks - 1) for look in range(num_looks)]
            plot_means(ranks, steps, [seen(runs, look, RANK) for look in range(num_looks)], label=name)
        ranks.axhline(COLLAPSED, color="black", lw=0.8, ls=":", label=f"collapsed: below {COLLAPSED}")
        ranks.set(title="Projections", xlabel="step", ylabel="effective rank", yscale="log")
        ranks.set_yticks((1, 2, 5, 10), ("1", "2", "5", "10"))
        accuracy.legend(fontsize=8)
        ranks.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))  # the curves fill the height


def judge(results: Results) -> list[Verdict]:
    """The claims, with what was measured here."""

    def differences(*pairs: tuple[str, str]) -> dict[str, list[float]]:
        return {
            f"{better} against {worse}": paired_differences(
                *(seen(results[name], -1, ACCURACY) for name in (worse, better))
            )
            for better, worse in pairs
        }

    def ranks(*names: str) -> dict[str, list[float]]:
        return {name: seen(results[name], -1, RANK) for name in names}

    note = f"accuracy with {FEW} labels a class"
    return [
        joint_verdict(
            "with BatchNorm BYOL learns, with and without EMA: accuracy rises",
            {name: gains(results[name]) for name in ("BYOL", "no EMA")},
            above=0,
            note=note,
        ),
        joint_verdict(
            "without BatchNorm it does not learn: accuracy falls below the untrained network's",
            {name: gains(results[name]) for name in ("no BatchNorm", "no BatchNorm, no EMA")},
            below=0,
            note=note,
        ),
        joint_verdict(
            "BatchNorm helps, with and without EMA",
            differences(("BYOL", "no BatchNorm"), ("no EMA", "no BatchNorm, no EMA")),
            above=0,
            note=note,
        ),
        joint_verdict("EMA helps", differences(("BYOL", "no EMA")), above=0, note=note),
        joint_verdict(
            f"with BatchNorm projections do not collapse: effective rank > {COLLAPSED}",
            ranks("BYOL", "no EMA"),
            above=COLLAPSED,
        ),
        joint_verdict(
            f"without the predictor they collapse: effective rank < {COLLAPSED}",
            ranks("no predictor", "no predictor, no EMA"),
            below=COLLAPSED,
        ),
        joint_verdict(
            f"without the stop-gradient they collapse: effective rank < {COLLAPSED}",
            ranks("no stop-gradient"),
            below=COLLAPSED,
        ),
    ]


# %%
def main(
    *,
    quick: bool = False,
    mnist: str | None = None,
    output_dir: str = "runs/reproduce",
    num_seeds: int | None = None,
    max_steps: int | None = None,
    num_processes: int | None = None,
) -> list[Verdict]:
    """Train all settings, and write the table, the figure and the verdicts."""
    seeds, max_steps = range(num_seeds or (2 if quick else 5)), max_steps or (50 if quick else 500)
    trials = [(name, seed) for name in SETTINGS for seed in seeds]
    runs = run_trials(
        train,
        [(SETTINGS[name], seed, max_steps, mnist) for name, seed in trials],
        num_processes=num_processes,
    )
    results: Results = {name: [] for name in SETTINGS}
    for (name, _), run in zip(trials, runs, strict=True):
        results[name].append(run)
    found = Reproduction("tian2020_byol", output_dir)
    found.table("byol", rows_of(results))
    draw(found, results, max_steps)
    return found.verdicts(judge(results))


# %%
if __name__ == "__main__":
    run_script(
        main,
        quick="two seeds, a tenth of the steps",
        mnist="the folder that holds MNIST",
        num_seeds="first weights and views",
    )
