"""Wen, Li 2021: contrastive learning finds sparse features where augmentation decouples the dense ones.

    python examples/reproduce/wen_li2021.py [--full]

Samples x = M z + xi hold few atoms and much dense noise. One layer of symmetrised ReLUs learns from two views of each,
with complementary random masks and without; the threshold of each neuron grows by hand after a linear stage. The
script follows the sparse and dense parts of the weights through all three stages beside what theory predicts without
training, and fits linear probes of <w*, z> and its sign. Ten minutes on two busy cores; --full doubles all sizes.
"""

# %%
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory import FeatureDecouplingSSL
from lightning_ssl_theory.callbacks import BiasSchedule, FeatureNormMonitor
from lightning_ssl_theory.data import SparseCodingDataModule, random_task, task_labels
from lightning_ssl_theory.networks import SymmetrizedReLU
from lightning_ssl_theory.probes import LabelledFeatures, label_curve
from lightning_ssl_theory.report import (
    History,
    Reproduction,
    Verdict,
    joint_verdict,
    mean_verdict,
    paired_differences,
    plot_atoms,
    plot_label_curves,
    plot_seeds,
    quiet_trainer,
    run_script,
    run_trials,
    values_of,
)
from lightning_ssl_theory.sparse_coding import (
    bayes_r2,
    best_soft_threshold,
    growth_rates,
    largest_dense_growth,
    linear_r2,
    minibatch_floor,
    stage_one_norms,
)

RATE, DECAY, LOOK_EVERY, NUM_TASKS, SMALL_START = 2.0, 1e-3, 5, 8, 1e-5
ATOM_TITLES = ("masks, end of stage I", "masks, in stage II", "masks, end", "no masks, end")
DASHES: dict[str, Any] = {"color": "black", "ls": (0, (4, 3)), "lw": 1.2}

Rows = list[dict[str, Any]]


class Sizes(NamedTuple):
    """What --full doubles."""

    num_features: int = 512
    num_atoms: int = 32
    num_neurons: int = 256
    batch_size: int = 1024
    labels: tuple[int, ...] = (100, 300, 1000, 3000, 6000, 12000)
    num_held_out: int = 6000

    def world(self, seed: int = 0, *, masks: bool = False) -> SparseCodingDataModule:
        """Samples with the theorem's probability and noise."""
        return SparseCodingDataModule(*self[:2], masks=masks, batch_size=self.batch_size, seed=seed)

    @property
    def noise(self) -> dict[str, float]:
        """What the best predictions from a sample depend on."""
        return {key: self.world().law[key] for key in ("probability", "noise_std")}

    @property
    def stage(self) -> int:
        """Steps of the linear stage, in which masks let the sparse part grow by e^4.4 = 80."""
        rate = growth_rates(**self.world().law, masks=True).sparse * RATE
        return LOOK_EVERY * round(4.4 / rate / LOOK_EVERY)

    @property
    def large_start(self) -> float:
        """Weights so large that without masks the loss is fitted before sparse features overtake the dense ones.

        It is fitted when the similarity m sigma^2 ||dense||^2 of a sample with itself reaches log B. Until then dense
        norms grow by two thirds of the largest factor that keeps them ahead.
        """
        law = self.world().law
        fitted = math.log(self.batch_size) / (self.num_neurons * law["noise_std"] ** 2)
        return math.sqrt(fitted / (self.num_features - self.num_atoms)) / (largest_dense_growth(**law) / 1.5)


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
        law = sizes.world().law
        return stage_one_norms(num_steps, **law, masks=self.masks, init_std=self.init_std, **options)


# %%
def train(sizes: Sizes, arm: Arm, seed: int) -> tuple[Rows, list[Tensor], Rows]:
    """Every look, the weights at the ends of the stages, and linear probes on what was learned."""
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
    return looks.looks, weights.looks, probed(sizes, arm.name, seed, network)


@torch.no_grad()
def probed(sizes: Sizes, name: str, seed: int, features: Callable[[Tensor], Tensor]) -> Rows:
    """R^2 of <w*, z>, mean over tasks, and accuracy of sign<w*, z> for one task, over the number of labels."""
    world, generator = sizes.world(seed), torch.Generator().manual_seed(10_000 + seed)
    samples = [world.draw(count, generator=generator) for count in (max(sizes.labels), sizes.num_held_out)]
    tasks = torch.stack([random_task(sizes.num_atoms, generator=generator) for _ in range(NUM_TASKS)], dim=1)
    fitted, held_out = (
        LabelledFeatures(features(part.inputs), part.codes @ tasks, task_labels(part.codes, tasks[:, 0]))
        for part in samples
    )
    return [{"features": name, "seed": seed} | row for row in label_curve(fitted, held_out, sizes.labels)]


def rate_rows(sizes: Sizes, arms: Sequence[Arm], looks: Rows) -> Rows:
    """Growth of ln ||.|| a step from small starts in the linear stage: measured, predicted, and of the population."""
    rows: Rows = []
    for arm in (arm for arm in arms if arm.init_std == SMALL_START):
        # without masks the loss is fitted, and the linear stage over, in less than half the time
        last = LOOK_EVERY * ((sizes.stage if arm.masks else sizes.stage * 2 // 5) // LOOK_EVERY)
        logs, steps = arm.predicted_norms(sizes, last).log() / 2, last - LOOK_EVERY
        for part, rate in growth_rates(**sizes.world().law, masks=arm.masks)._asdict().items():
            predicted = logs[:, int(part == "dense")]
            row = {
                "arm": arm.name,
                "part": part,
                "with_noise": float(predicted[last] - predicted[LOOK_EVERY]) / steps,
                "population": math.log(1 + RATE * (rate - DECAY)),
            }
            norms = (values_of(looks, f"{part}_norm", arm=arm.name, step=n) for n in (LOOK_EVERY, last))
            for seed, (first, end) in enumerate(zip(*norms, strict=True)):
                rows.append(row | {"seed": seed, "measured": math.log(end / first) / 2 / steps})
    return rows


# %%
def draw_looks(axes: Any, looks: Rows, arm: str, key: str, label: str, **style: Any) -> None:
    """One line for each seed."""
    steps, seeds = values_of(looks, "step", arm=arm, seed=0), sorted({look["seed"] for look in looks})
    plot_seeds(axes, steps, [values_of(looks, key, arm=arm, seed=n) for n in seeds], label=label, **style)


def plot_stages(found: Reproduction, sizes: Sizes, arms: Sequence[Arm], looks: Rows) -> None:
    """Norms with and without masks, their ratio, and how neurons become singletons."""
    ratios = ("masks", "no masks", "no masks, small start")
    shares = {
        "active_singleton_share": "singletons",
        "covered_share": "atoms covered",
        "leading_atom_share": "leading atom's share",
        "firing_rate": "firing rate",
    }
    floor = minibatch_floor(**sizes.world().law, batch_size=sizes.batch_size, learning_rate=RATE)
    # without masks the linear stage ends where the loss has fallen by a twentieth of what chance gives
    losses = zip(*(values_of(looks, key, arm=arms[1].name) for key in ("step", "loss")), strict=True)
    fitted = min(
        (step for step, loss in losses if loss < 0.95 * math.log(sizes.batch_size)), default=sizes.stage
    )
    with found.figure("stages", num_rows=2, num_columns=2) as (with_masks, without, ratio, atoms):
        for axes, arm, last in ((with_masks, arms[0], sizes.stage), (without, arms[1], fitted)):
            for part, colour in (("sparse", "C0"), ("dense", "C1")):
                draw_looks(axes, looks, arm.name, f"{part}_norm", part, color=colour)
            axes.plot(arm.predicted_norms(sizes, last), **DASHES)
            axes.plot([], [], label="predicted, linear stage", **DASHES)
            axes.set(title=arm.name, xlabel="step", ylabel="squared norm", yscale="log")
        for index, name in enumerate(ratios):
            draw_looks(ratio, looks, name, "ratio", name, color=f"C{index}")
        ratio.plot([0, sizes.stage], [floor, floor], label="predicted floor of stage I", **DASHES)
        ratio.set(title="dense / sparse", xlabel="step", ylabel="ratio of squared norms", yscale="log")
        for index, (key, label) in enumerate(shares.items()):
            draw_looks(atoms, looks, "masks", key, label, color=f"C{index}")
        atoms.set(title="masks; grey: biases begin to grow", xlabel="step", ylabel="share", ylim=(0, 1.06))
        for axes in (with_masks, without, ratio):
            axes.legend(fontsize=8)
        atoms.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.18, 0.93))
        for axes in (with_masks, atoms):
            axes.axvline(sizes.stage, color="#8d939c", lw=0.8)


def plot_downstream(found: Reproduction, sizes: Sizes, curves: Rows) -> None:
    """R^2 and accuracy over the number of labels."""
    caps = {
        "Bayes": bayes_r2(**sizes.noise),
        "best soft threshold": best_soft_threshold(**sizes.noise)[1],
        "best linear": linear_r2(**sizes.noise),
    }
    with found.figure("downstream", num_columns=2) as (left, right):
        plot_label_curves(left, curves, "r2", caps=caps)
        plot_label_curves(right, curves, "accuracy")
        left.set(title="regression onto ⟨w*, z⟩", ylabel="held-out R²", ylim=(0, 1))
        right.set(title="sign of ⟨w*, z⟩", ylabel="held-out accuracy", ylim=(0.5, 1))
        right.figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)


# %%
def weight_verdicts(sizes: Sizes, looks: Rows, finals: Rows) -> list[Verdict]:
    """What the weights say."""
    law = sizes.world().law
    floor = minibatch_floor(**law, batch_size=sizes.batch_size, learning_rate=RATE)
    limit = f"in words; false beyond {largest_dense_growth(**law):.2g}-fold growth"
    small, biased, large = "no masks, small start", "no masks, growing biases", "masks, large start"
    claims = [
        ("masks: sparse share of ||W||² > 0.9", "masks", "sparse_share", 0.9),
        ("masks: > 70 % of active neurons are singletons", "masks", "active_singleton_share", 0.7),
        ("masks: > 95 % of the atoms lead some neuron", "masks", "covered_share", 0.95),
        ("no masks: dense share > 0.7", "no masks", "dense_share", 0.7),
        ("masks do it: sparse share > 0.7 from the same start", large, "sparse_share", 0.7),
        ("no masks: dense share > 0.7 from a small start, too", small, "dense_share", 0.7),
        ("no masks: dense share > 0.7 also if biases grow", biased, "dense_share", 0.7),
    ]
    ratios = [ratio / floor for ratio in values_of(looks, "ratio", arm="masks", step=sizes.stage)]
    return [
        *(
            mean_verdict(
                claim,
                values_of(finals, key, arm=arm),
                above=least,
                paper=limit if arm == small else "in words",
            )
            for claim, arm, key, least in claims
        ),
        mean_verdict(
            "masks: stage I ends at the floor of mini-batches, within a factor 1.5",
            ratios,
            above=1 / 1.5,
            below=1.5,
            paper=f"dense / sparse = {floor:.3g} predicted",
            note="measured over predicted",
        ),
        joint_verdict(
            "few neurons (< 25 %) fire at a sample once biases have grown, with masks and without",
            {arm: values_of(finals, "firing_rate", arm=arm) for arm in ("masks", biased)},
            below=0.25,
        ),
    ]


def downstream_verdicts(sizes: Sizes, curves: Rows) -> list[Verdict]:
    """What the probes say, at every number of labels together."""
    soft, last = best_soft_threshold(**sizes.noise)[1], sizes.labels[-1]
    many = [count for count in sizes.labels if count >= 6000] or [last]

    def scores(features: str, key: str, counts: Sequence[int]) -> dict[str, list[float]]:
        return {f"{n} labels": values_of(curves, key, features=features, labels=n) for n in counts}

    def above_raw(claim: str, features: str, key: str, counts: Sequence[int], **bound: float) -> Verdict:
        raw, ours = (scores(name, key, counts) for name in ("raw input", features))
        margins = {name: paired_differences(raw[name], ours[name]) for name in raw}
        return joint_verdict(claim, margins, note="difference to raw input's", **bound)

    every, r2, accuracy = sizes.labels, "R² of <w*, z>", "accuracy of sign<w*, z>"
    best = f"masks: {r2} > 90 % of the best soft threshold's {soft:.3f} from 6000 labels"
    at_every = "above raw input's at every number of labels"
    return [
        joint_verdict(best, scores("masks", "r2", many), above=0.9 * soft),
        above_raw(f"masks: {r2} {at_every}", "masks", "r2", every, above=0),
        above_raw(f"masks: {accuracy} {at_every}", "masks", "accuracy", every, above=0),
        above_raw(
            f"no masks: {r2} above raw input's at no number of labels", "no masks", "r2", every, below=0
        ),
        above_raw(
            f"no masks: {r2} not above raw input's with {last} labels", "no masks", "r2", [last], below=0
        ),
    ]


def rate_verdicts(rates: Rows) -> list[Verdict]:
    """Whether norms grow in the linear stage as the population says, and as it says with the noise of mini-batches."""
    parts = {(row["arm"], row["part"]): row for row in rates}
    dense = parts["masks", "dense"]
    return [
        joint_verdict(
            "stage I: ||sparse|| and ||dense|| with masks, then without, grow a step as predicted, within 10 %",
            {
                f"{arm}, {part}": [
                    rate / row["with_noise"] for rate in values_of(rates, "measured", arm=arm, part=part)
                ]
                for (arm, part), row in parts.items()
            },
            above=0.9,
            below=1.1,
            paper="population " + ", ".join(f"{row['population']:+.4f}" for row in parts.values()),
            note="measured over predicted with the noise of mini-batches",
        ),
        mean_verdict(
            "stage I, masks: the dense part does not grow",
            values_of(rates, "measured", arm="masks", part="dense"),
            below=0,
            paper=f"population {dense['population']:+.4f} a step",
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
    usual = Sizes(1024, 64, 512, 1024, (100, 300, 1000, 3000, 6000, 24000)) if full else Sizes()
    sizes = sizes or usual
    large = sizes.large_start
    arms = [
        Arm("masks", True, SMALL_START, True, 6.0 * shorten),
        Arm("no masks", False, large, False, 2.0 * shorten),
        Arm("masks, large start", True, large, True, 4.0 * shorten),
        Arm("no masks, growing biases", False, large, True, 4.0 * shorten),
        Arm("no masks, small start", False, SMALL_START, False, 2.0 * shorten),
    ]
    trials = [(sizes, arm, seed) for arm in arms for seed in range(num_seeds)]
    results = run_trials(train, trials, num_processes=num_processes)
    looks, curves = ([row for result in results for row in result[part]] for part in (0, 2))
    for seed in range(num_seeds):
        curves += probed(sizes, "raw input", seed, lambda inputs: inputs)
    lengths, rates = {arm.name: arm.num_steps(sizes) for arm in arms}, rate_rows(sizes, arms, looks)
    finals = [look for look in looks if look["step"] == lengths[look["arm"]]]
    found = Reproduction("wen_li2021", output_dir)
    for name, rows in {"rates": rates, "weights": finals, "downstream": curves, "looks": looks}.items():
        found.table(name, rows)
    plot_stages(found, sizes, arms, looks)
    weights = dict(zip(ATOM_TITLES, [*results[0][1], results[num_seeds][1][-1]], strict=True))
    with found.figure("atoms", num_columns=len(weights)) as axes:
        plot_atoms(axes, weights, sizes.world().dictionary)
    plot_downstream(found, sizes, curves)
    verdicts = weight_verdicts(sizes, looks, finals) + downstream_verdicts(sizes, curves)
    return found.verdicts(verdicts + rate_verdicts(rates))


# %%
if __name__ == "__main__":
    run_script(main, full="twice the atoms and inputs", num_seeds="trainings of every arm")
