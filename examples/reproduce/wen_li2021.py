"""Wen, Li 2021: contrastive learning finds sparse features where augmentation decouples the dense ones.

    python examples/reproduce/wen_li2021.py [--full]

Samples x = M z + xi hold few atoms and much dense noise. One layer of symmetrised ReLUs learns from two views of each,
with complementary random masks and without; the threshold of each neuron grows by hand after a linear stage. The
script follows the sparse and dense parts of the weights through all three stages beside what theory predicts without
training; wen_li2021_downstream.py probes the features. Ten minutes on two busy cores; --full doubles all sizes.
"""

# %%
import math
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory import FeatureDecouplingSSL
from lightning_ssl_theory.callbacks import BiasSchedule, FeatureNormMonitor
from lightning_ssl_theory.data import SparseCodingDataModule
from lightning_ssl_theory.networks import SymmetrizedReLU
from lightning_ssl_theory.report import (
    History,
    Reproduction,
    Verdict,
    joint_verdict,
    mean_verdict,
    plot_atoms,
    plot_stages,
    quiet_trainer,
    run_script,
    run_trials,
    values_of,
)
from lightning_ssl_theory.sparse_coding import (
    dense_start_std,
    growth_rates,
    largest_dense_growth,
    minibatch_floor,
    stage_one_norms,
)

RATE, DECAY, LOOK_EVERY, SMALL_START = 2.0, 1e-3, 5, 1e-5
ATOM_TITLES = ("masks, end of stage I", "masks, in stage II", "masks, end", "no masks, end")

Rows = list[dict[str, Any]]


class Sizes(NamedTuple):
    """What --full doubles."""

    num_features: int = 512
    num_atoms: int = 32
    num_neurons: int = 256
    batch_size: int = 1024

    def world(self, seed: int = 0, *, masks: bool = False) -> SparseCodingDataModule:
        """Samples with the theorem's probability and noise."""
        return SparseCodingDataModule(*self[:2], masks=masks, batch_size=self.batch_size, seed=seed)

    @property
    def law(self) -> dict[str, Any]:
        return self.world().law

    @property
    def stage(self) -> int:
        """Steps of the linear stage, in which masks let the sparse part grow by e^4.4 = 80."""
        return LOOK_EVERY * round(4.4 / (RATE * growth_rates(**self.law, masks=True).sparse) / LOOK_EVERY)

    @property
    def floor(self) -> float:
        """Ratio dense / sparse at which the linear stage ends with masks."""
        return minibatch_floor(**self.law, batch_size=self.batch_size, learning_rate=RATE)


class Arm(NamedTuple):
    """One way to learn."""

    name: str
    masks: bool
    init_std: float
    grows_biases: bool
    num_stages: float  # length, in lengths of the linear stage

    def num_steps(self, sizes: Sizes) -> int:
        return LOOK_EVERY * round(self.num_stages * sizes.stage / LOOK_EVERY)

    def predicted_norms(self, sizes: Sizes, num_steps: int) -> Tensor:
        """Squared norms of the sparse and the dense part that theory expects in the linear stage."""
        options = {"batch_size": sizes.batch_size, "learning_rate": RATE, "weight_decay": DECAY}
        return stage_one_norms(num_steps, **sizes.law, masks=self.masks, init_std=self.init_std, **options)


# %%
def train(sizes: Sizes, arm: Arm, seed: int) -> tuple[Rows, list[Tensor]]:
    """Every look, and the weights at the ends of the stages."""
    world, num_steps = sizes.world(seed, masks=arm.masks), arm.num_steps(sizes)
    start = {"init_std": arm.init_std, "generator": torch.Generator().manual_seed(seed)}
    network = SymmetrizedReLU(sizes.num_features, sizes.num_neurons, **start)
    monitor = FeatureNormMonitor(
        ["network"], dictionary=world.dictionary, every_n_steps=LOOK_EVERY, num_samples=128, strict=True
    )

    def look(trainer: Any, _: Any) -> dict[str, Any]:
        loss = float(trainer.callback_metrics.get("train/loss", math.nan))
        values = {key.split("/")[-1]: value for key, value in monitor.values.items()}
        values["ratio"] = values["dense_norm"] / values["sparse_norm"]
        values["dense_share"] = 1 - values["sparse_share"]
        return {"arm": arm.name, "seed": seed, "step": trainer.global_step, "loss": loss} | values

    looks = History(look, steps=range(0, num_steps + 1, LOOK_EVERY))
    ends = {sizes.stage, num_steps // 2, num_steps}
    weights = History(lambda _, module: module.network.weight.detach().clone(), steps=ends)
    biases = [BiasSchedule(["network"], start_step=sizes.stage, growth=RATE / sizes.num_atoms)]
    callbacks = [*biases[: arm.grows_biases], monitor, looks, weights]
    optimizer = partial(torch.optim.SGD, lr=RATE, weight_decay=DECAY)
    trainer = quiet_trainer(*callbacks, max_steps=num_steps, max_epochs=-1, limit_val_batches=0)
    trainer.fit(FeatureDecouplingSSL(network, optimizer=optimizer), datamodule=world)
    return looks.looks, weights.looks


def rate_rows(sizes: Sizes, arms: list[Arm], looks: Rows) -> Rows:
    """Growth of ln ||.|| a step from small starts in the linear stage: measured, predicted, and of the population."""
    rows: Rows = []
    for arm in (arm for arm in arms if arm.init_std == SMALL_START):
        # without masks the loss is fitted, and the linear stage over, in less than half the time
        last = LOOK_EVERY * ((sizes.stage if arm.masks else sizes.stage * 2 // 5) // LOOK_EVERY)
        logs, steps = arm.predicted_norms(sizes, last).log() / 2, last - LOOK_EVERY
        with_noise = (logs[last] - logs[LOOK_EVERY]) / steps
        rates = growth_rates(**sizes.law, masks=arm.masks)
        for part, rate, predicted in zip(rates._fields, rates, with_noise.tolist(), strict=True):
            norms = (values_of(looks, f"{part}_norm", arm=arm.name, step=n) for n in (LOOK_EVERY, last))
            measured = [math.log(end / first) / 2 / steps for first, end in zip(*norms, strict=True)]
            row = {"arm": arm.name, "part": part, "with_noise": predicted}
            row |= {"population": math.log(1 + RATE * (rate - DECAY))}
            rows += [row | {"seed": seed, "measured": value} for seed, value in enumerate(measured)]
    return rows


# %%
def draw(found: Reproduction, sizes: Sizes, arms: list[Arm], looks: Rows) -> None:
    """Norms with and without masks, their ratio, and how neurons become singletons."""
    # without masks the linear stage ends where the loss has fallen by a twentieth of what chance gives
    losses = zip(*(values_of(looks, key, arm=arms[1].name) for key in ("step", "loss")), strict=True)
    fitted = (step for step, loss in losses if loss < 0.95 * math.log(sizes.batch_size))
    lasts = (sizes.stage, min(fitted, default=sizes.stage))
    predicted = {arm.name: arm.predicted_norms(sizes, last) for arm, last in zip(arms, lasts, strict=False)}
    with found.figure("stages", num_rows=2, num_columns=2) as axes:
        plot_stages(axes, looks, predicted, compared=arms[-1].name, stage=sizes.stage, floor=sizes.floor)


def judge(sizes: Sizes, looks: Rows, finals: Rows) -> list[Verdict]:
    """What the weights say."""
    claims = [
        ("masks: sparse share of ||W||² > 0.9", "masks", "sparse_share", 0.9),
        ("masks: > 70 % of active neurons are singletons", "masks", "active_singleton_share", 0.7),
        ("masks: > 95 % of the atoms lead some neuron", "masks", "covered_share", 0.95),
        ("no masks: dense share > 0.7", "no masks", "dense_share", 0.7),
        ("masks do it: sparse share > 0.7 from the same start", "masks, large start", "sparse_share", 0.7),
        ("no masks: dense share > 0.7 also if biases grow", "no masks, growing biases", "dense_share", 0.7),
    ]
    return [
        *(mean_verdict(claim, values_of(finals, key, arm=arm), above=b) for claim, arm, key, b in claims),
        mean_verdict(
            "no masks: dense share > 0.7 from a small start, too",
            values_of(finals, "dense_share", arm="no masks, small start"),
            above=0.7,
            paper=f"in words; false beyond {largest_dense_growth(**sizes.law):.2g}-fold growth",
        ),
        mean_verdict(
            "masks: stage I ends at the floor of mini-batches, within a factor 1.5",
            [ratio / sizes.floor for ratio in values_of(looks, "ratio", arm="masks", step=sizes.stage)],
            above=1 / 1.5,
            below=1.5,
            paper=f"dense / sparse = {sizes.floor:.3g} predicted",
            note="measured over predicted",
        ),
        joint_verdict(
            "few neurons (< 25 %) fire at a sample once biases have grown, with masks and without",
            {arm: values_of(finals, "firing_rate", arm=arm) for arm in ("masks", "no masks, growing biases")},
            below=0.25,
        ),
    ]


def judge_rates(rates: Rows) -> list[Verdict]:
    """Whether norms grow in the linear stage as the population says, and as it says with the noise of mini-batches."""
    parts = {(row["arm"], row["part"]): row for row in rates}
    measured = {(arm, part): values_of(rates, "measured", arm=arm, part=part) for arm, part in parts}
    return [
        joint_verdict(
            "stage I: ||sparse|| and ||dense|| with masks, then without, grow a step as predicted, within 10 %",
            {
                ", ".join(key): [rate / row["with_noise"] for rate in measured[key]]
                for key, row in parts.items()
            },
            above=0.9,
            below=1.1,
            paper="population " + ", ".join(f"{row['population']:+.4f}" for row in parts.values()),
            note="measured over predicted with the noise of mini-batches",
        ),
        mean_verdict(
            "stage I, masks: the dense part does not grow",
            measured["masks", "dense"],
            below=0,
            paper=f"population {parts['masks', 'dense']['population']:+.4f} a step",
            note="the noise of mini-batches lifts it to its floor beside the sparse part",
        ),
    ]


# %%
def main(
    *,
    full: bool = False,
    output_dir: str = "runs/reproduce",
    num_seeds: int = 5,
    sizes: Sizes | None = None,
    shorten: float = 1.0,
    num_processes: int | None = None,
) -> list[Verdict]:
    """Train every arm on every seed, and write tables, figures and verdicts."""
    sizes = sizes or (Sizes(1024, 64, 512) if full else Sizes())
    large = dense_start_std(**sizes.law, num_neurons=sizes.num_neurons, batch_size=sizes.batch_size)
    arms = [
        Arm("masks", True, SMALL_START, True, 6.0 * shorten),
        Arm("no masks", False, large, False, 2.0 * shorten),
        Arm("masks, large start", True, large, True, 4.0 * shorten),
        Arm("no masks, growing biases", False, large, True, 4.0 * shorten),
        Arm("no masks, small start", False, SMALL_START, False, 2.0 * shorten),
    ]
    trials = [(sizes, arm, seed) for arm in arms for seed in range(num_seeds)]
    results = run_trials(train, trials, num_processes=num_processes)
    looks = [look for found, _ in results for look in found]
    finals, rates = [found[-1] for found, _ in results], rate_rows(sizes, arms, looks)
    found = Reproduction("wen_li2021", output_dir)
    for name, rows in {"rates": rates, "weights": finals, "looks": looks}.items():
        found.table(name, rows)
    draw(found, sizes, arms, looks)
    weights = dict(zip(ATOM_TITLES, [*results[0][1], results[num_seeds][1][-1]], strict=True))
    with found.figure("atoms", num_columns=len(weights)) as axes:
        plot_atoms(axes, weights, sizes.world().dictionary)
    return found.verdicts(judge(sizes, looks, finals) + judge_rates(rates))


# %%
if __name__ == "__main__":
    run_script(main, full="twice the atoms and inputs", num_seeds="trainings of every arm")
