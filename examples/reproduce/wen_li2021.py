"""Wen, Li 2021: contrastive learning finds sparse features where augmentation decouples the dense ones.

    python examples/reproduce/wen_li2021.py [--full]

Samples x = M z + xi hold few atoms and much dense noise. One layer of symmetrised ReLUs learns from two views of each,
with complementary random masks and without; the threshold of each neuron grows by hand after a linear stage. The
script follows the sparse and dense parts of the weights through all three stages beside what theory predicts without
training, and fits linear probes of <w*, z> and its sign. Two minutes on two cores; --full doubles all sizes.
"""

# %%
import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory import FeatureDecouplingSSL
from lightning_ssl_theory.callbacks import BiasSchedule, FeatureNormMonitor
from lightning_ssl_theory.data import SparseCodingDataModule, random_task, task_labels
from lightning_ssl_theory.metrics import dictionary_coverage
from lightning_ssl_theory.networks import SymmetrizedReLU
from lightning_ssl_theory.probes import logistic_classifier, r2_score, ridge_regression, top_k_correct
from lightning_ssl_theory.report import Reproduction, Verdict, run_trials
from lightning_ssl_theory.sparse_coding import (
    bayes_r2,
    best_soft_threshold,
    growth_rates,
    largest_dense_growth,
    linear_r2,
    minibatch_floor,
    stage_one_norms,
)

RATE, DECAY, LOOK_EVERY, NUM_TASKS = 2.0, 1e-3, 5, 8
SMALL_START = 1e-5
DASHES: dict[str, Any] = {"color": "black", "ls": (0, (4, 3)), "lw": 1.2}
SHARES = {
    "active_singleton_share": "singletons",
    "covered_share": "atoms covered",
    "leading_atom_share": "leading atom's share",
    "firing_rate": "firing rate",
}
WHEN = {"I": "end of stage I", "II": "in stage II", "end": "end"}


class Sizes(NamedTuple):
    """What --full doubles."""

    num_features: int = 512
    num_atoms: int = 32
    num_neurons: int = 256
    batch_size: int = 1024
    labels: tuple[int, ...] = (100, 300, 1000, 3000, 6000, 12000)
    num_held_out: int = 6000


class Arm(NamedTuple):
    """One way to learn."""

    name: str
    masks: bool
    init_std: float
    grows_biases: bool
    num_stages: float  # length, in lengths of the linear stage


class Run(NamedTuple):
    """What one training left."""

    looks: list[dict[str, float]]
    weights: dict[str, Tensor]  # by the keys of WHEN
    curve: list[dict[str, float]]  # of linear probes, over the number of labels


Runs = dict[str, list[Run]]
Finals = dict[str, list[dict[str, float]]]
Curves = dict[str, list[dict[str, float]]]


class History(Callback):
    """Every look of the monitor, and the weights at the ends of the stages."""

    def __init__(self, monitor: FeatureNormMonitor, ends: dict[int, str]) -> None:
        self.monitor, self.ends = monitor, ends
        self.looks: list[dict[str, float]] = []
        self.weights: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 0:
            self._record(0, math.nan)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        step = trainer.global_step
        if step % LOOK_EVERY == 0:
            self._record(step, float(outputs["loss"]))
        if step in self.ends:
            self.weights[self.ends[step]] = pl_module.network.weight.detach().clone()

    def _record(self, step: int, loss: float) -> None:
        values = {key.split("/")[-1]: value for key, value in self.monitor.values.items()}
        self.looks.append({"step": step, "loss": loss} | values)


# %%
def world_of(sizes: Sizes, seed: int, *, masks: bool) -> SparseCodingDataModule:
    """Samples with the theorem's probability and noise."""
    return SparseCodingDataModule(
        sizes.num_features, sizes.num_atoms, masks=masks, batch_size=sizes.batch_size, seed=seed
    )


def law_of(sizes: Sizes) -> dict[str, Any]:
    """The arguments that all predictions share."""
    world = world_of(sizes, 0, masks=False)
    return {
        "num_features": sizes.num_features,
        "num_atoms": sizes.num_atoms,
        "probability": world.probability,
        "noise_std": world.noise_std,
    }


def large_start(sizes: Sizes) -> float:
    """Weights so large that without masks the loss is fitted before sparse features overtake the dense ones.

    It is fitted when the similarity m sigma^2 ||dense||^2 of a sample with itself reaches log B. Until then dense norms
    grow by two thirds of the largest factor that keeps them ahead.
    """
    law = law_of(sizes)
    fitted = math.log(sizes.batch_size) / (sizes.num_neurons * law["noise_std"] ** 2)
    growth = largest_dense_growth(**law) / 1.5
    return math.sqrt(fitted / (sizes.num_features - sizes.num_atoms)) / growth


def stage_one_steps(sizes: Sizes) -> int:
    """Steps in which masks let the sparse part grow by e^4.4 = 80."""
    return LOOK_EVERY * round(4.4 / (growth_rates(**law_of(sizes), masks=True).sparse * RATE) / LOOK_EVERY)


def train(sizes: Sizes, seed: int, arm: Arm, stage: int) -> Run:
    """One training, and linear probes on what it learned."""
    world = world_of(sizes, seed, masks=arm.masks)
    network = SymmetrizedReLU(
        sizes.num_features,
        sizes.num_neurons,
        init_std=arm.init_std,
        generator=torch.Generator().manual_seed(seed),
    )
    num_steps = LOOK_EVERY * round(arm.num_stages * stage / LOOK_EVERY)
    monitor = FeatureNormMonitor(
        ["network"], dictionary=world.dictionary, every_n_steps=LOOK_EVERY, num_samples=128, strict=True
    )
    history = History(monitor, {num_steps // 2: "II", stage: "I", num_steps: "end"})
    callbacks: list[Callback] = [monitor, history]
    if arm.grows_biases:
        callbacks.insert(0, BiasSchedule(["network"], start_step=stage, growth=RATE / sizes.num_atoms))
    trainer = Trainer(
        accelerator="cpu",
        max_steps=num_steps,
        max_epochs=-1,
        limit_val_batches=0,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    optimizer = partial(torch.optim.SGD, lr=RATE, weight_decay=DECAY)
    trainer.fit(FeatureDecouplingSSL(network, optimizer=optimizer), datamodule=world)
    return Run(history.looks, history.weights, probed(sizes, seed, network))


# %%
@torch.no_grad()
def probed(sizes: Sizes, seed: int, features: Callable[[Tensor], Tensor]) -> list[dict[str, float]]:
    """R^2 of <w*, z>, mean over tasks, and accuracy of sign<w*, z> for one task, over the number of labels."""
    world, generator = world_of(sizes, seed, masks=False), torch.Generator().manual_seed(10_000 + seed)
    fitted = world.draw(max(sizes.labels), generator=generator)
    held_out = world.draw(sizes.num_held_out, generator=generator)
    tasks = torch.stack([random_task(sizes.num_atoms, generator=generator) for _ in range(NUM_TASKS)], dim=1)
    inputs, new = features(fitted.inputs), features(held_out.inputs)
    labels, goals = (task_labels(samples.codes, tasks[:, 0]) for samples in (fitted, held_out))
    rows = []
    for count in sizes.labels:
        regressor = ridge_regression(inputs[:count], fitted.codes[:count] @ tasks)
        scores = r2_score(regressor.predictions(new), held_out.codes @ tasks)
        has_label = labels[:count] >= 0
        classifier = logistic_classifier(inputs[:count][has_label], labels[:count][has_label], 2, l2=1e-2)
        correct = top_k_correct(classifier.scores(new[goals >= 0]), goals[goals >= 0], 1)
        rows.append({"labels": count, "r2": float(scores.mean()), "accuracy": float(correct.double().mean())})
    return rows


def final_values(run: Run, dictionary: Tensor) -> dict[str, float]:
    """Shares of the trained weights."""
    weight = run.weights["end"]
    squares, inside = weight.square().sum(1), (weight @ dictionary).square().sum(1)
    coverage = dictionary_coverage(weight, dictionary)
    return {
        "sparse_share": float((inside / squares).mean()),
        "dense_share": float((1 - inside / squares).mean()),
        "singletons": float(coverage.singleton_share),
        "covered": float(coverage.covered_share),
        "firing_rate": run.looks[-1]["firing_rate"],
    }


# %%
def rate_rows(sizes: Sizes, arms: Sequence[Arm], runs: Runs, stage: int) -> list[dict[str, Any]]:
    """Growth of ln ||.|| a step from small starts in the linear stage: measured, predicted, and of the population."""
    rows: list[dict[str, Any]] = []
    for arm in (arm for arm in arms if arm.init_std == SMALL_START):
        # without masks the loss is fitted, and the linear stage over, in less than half the time
        last = (stage if arm.masks else stage * 2 // 5) // LOOK_EVERY
        predicted = predicted_norms(sizes, arm, last * LOOK_EVERY)
        for part, rate in growth_rates(**law_of(sizes), masks=arm.masks)._asdict().items():
            looks = [[run.looks[n][f"{part}_norm"] for n in (1, last)] for run in runs[arm.name]]
            expected = predicted[[LOOK_EVERY, last * LOOK_EVERY], int(part == "dense")]
            measured, with_noise = (
                [math.log(end / start) for start, end in pairs] for pairs in (looks, [expected])
            )
            steps = 2 * LOOK_EVERY * (last - 1)
            rows.append(
                {
                    "arm": arm.name,
                    "part": part,
                    "measured": sum(measured) / len(measured) / steps,
                    "lowest": min(measured) / steps,
                    "highest": max(measured) / steps,
                    "with_noise": with_noise[0] / steps,
                    "population": math.log(1 + RATE * (rate - DECAY)),
                }
            )
    return rows


def predicted_norms(sizes: Sizes, arm: Arm, num_steps: int) -> Tensor:
    """Squared norms of the sparse and the dense part that theory expects in the linear stage."""
    return stage_one_norms(
        num_steps,
        **law_of(sizes),
        masks=arm.masks,
        batch_size=sizes.batch_size,
        learning_rate=RATE,
        weight_decay=DECAY,
        init_std=arm.init_std,
    )


def third_stage(run: Run, batch_size: int) -> float:
    """The step from which the loss has fallen by a twentieth of what chance gives."""
    steps = [look["step"] for look in run.looks if look["loss"] < 0.95 * math.log(batch_size)]
    return steps[0] if steps else math.inf


# %%
def draw(axes: Any, runs: Sequence[Run], value: Any, label: str, **style: Any) -> None:
    """One line for each seed; `value` is a key of a look, or a function of it."""
    for index, run in enumerate(runs):
        heights = [look[value] if isinstance(value, str) else value(look) for look in run.looks]
        steps = [look["step"] for look in run.looks]
        axes.plot(steps, heights, lw=1.2, alpha=0.7, label=label if index == 0 else None, **style)


def draw_norms(axes: Any, sizes: Sizes, arm: Arm, runs: Sequence[Run], last: float) -> None:
    """Sparse and dense squared norms, and the prediction of the linear stage."""
    draw(axes, runs, "sparse_norm", "sparse", color="C0")
    draw(axes, runs, "dense_norm", "dense", color="C1")
    predicted = predicted_norms(sizes, arm, int(last))
    axes.plot(predicted[:, 0], label="predicted", **DASHES)
    axes.plot(predicted[:, 1], **DASHES)
    axes.set(xlabel="step", ylabel="squared norm", yscale="log")
    axes.legend()


def mark_stages(axes: Any, ends: Sequence[float]) -> None:
    """Grey lines between the stages, and their numbers."""
    width = axes.get_xlim()[1]
    starts = [0.0, *(end for end in ends if end < width)]
    for number, start in enumerate(starts):
        if number:
            axes.axvline(start, color="#8d939c", lw=0.8)
        text = "I" * (number + 1)
        axes.text(start + 0.01 * width, 1.0, text, transform=axes.get_xaxis_transform(), va="top")


def plot_stages(found: Reproduction, sizes: Sizes, arms: Sequence[Arm], runs: Runs, stage: int) -> None:
    """Norms with and without masks, their ratio, and how neurons become singletons."""
    ends = (stage, third_stage(runs["masks"][0], sizes.batch_size))
    floor = minibatch_floor(**law_of(sizes), batch_size=sizes.batch_size, learning_rate=RATE)
    with found.figure("stages", num_rows=2, num_columns=2) as (with_masks, without, ratio, atoms):
        draw_norms(with_masks, sizes, arms[0], runs["masks"], stage)
        with_masks.set_title("with masks")
        draw_norms(
            without, sizes, arms[1], runs["no masks"], third_stage(runs["no masks"][0], sizes.batch_size)
        )
        without.set_title("without masks, linear throughout")
        for name, colour in (("masks", "C0"), ("no masks", "C1"), ("no masks, small start", "C3")):
            draw(ratio, runs[name], lambda look: look["dense_norm"] / look["sparse_norm"], name, color=colour)
        ratio.plot([0, stage], [floor, floor], label="predicted floor of stage I", **DASHES)
        ratio.set(title="dense / sparse", xlabel="step", ylabel="ratio of squared norms", yscale="log")
        for index, (key, label) in enumerate(SHARES.items()):
            draw(atoms, runs["masks"], key, label, color=f"C{index}")
        atoms.set(title="with masks", xlabel="step", ylabel="share", ylim=(0, 1.06))
        for axes in (with_masks, atoms):
            mark_stages(axes, ends)
        ratio.legend(fontsize=8.5)
        atoms.legend(fontsize=8.5, loc="upper left", bbox_to_anchor=(0.2, 0.9))


def plot_atoms(found: Reproduction, runs: Runs, dictionary: Tensor) -> None:
    """How much of each neuron lies on each atom, at the end of every stage."""
    masks = runs["masks"][0].weights
    panels = {f"with masks, {when}": masks[name] for name, when in WHEN.items()}
    panels["without masks, end"] = runs["no masks"][0].weights["end"]
    with found.figure("atoms", num_columns=4) as axes:
        for axis, (title, weight) in zip(axes, panels.items(), strict=True):
            cosines = (weight @ dictionary).abs() / weight.norm(dim=1, keepdim=True)
            order = cosines.argmax(1).argsort()
            image = axis.imshow(cosines[order], aspect="auto", cmap="Blues", vmin=0, vmax=1)
            axis.set(title=title, xlabel="atom")
            axis.grid(False)
        axes[0].set_ylabel("neuron, sorted by its leading atom")
        axes[-1].figure.colorbar(image, ax=axes[-1], label="|cosine|")


def plot_downstream(found: Reproduction, sizes: Sizes, curves: Curves) -> None:
    """R^2 and accuracy over the number of labels."""
    probability, noise_std = law_of(sizes)["probability"], law_of(sizes)["noise_std"]
    caps = {
        "Bayes": bayes_r2(probability, noise_std),
        "best soft threshold": best_soft_threshold(probability, noise_std)[1],
        "best linear": linear_r2(probability, noise_std),
    }
    with found.figure("downstream", num_columns=2) as (left, right):
        for axes, key in ((left, "r2"), (right, "accuracy")):
            for name, rows in curves.items():
                style = DASHES if name == "raw input" else {}
                heights = [row[key] for row in rows]
                axes.plot(sizes.labels, heights, marker="o", ms=3.5, label=name, **style)
            axes.set(xlabel="labels", xscale="log")
            axes.set_xticks(sizes.labels, map(str, sizes.labels))
            axes.minorticks_off()
        for name, cap in caps.items():
            left.axhline(cap, color="#8d939c", lw=0.8, zorder=0)
            left.annotate(name, (sizes.labels[0], cap), va="bottom", fontsize=8, color="#5d636d")
        left.set(title="regression onto ⟨w*, z⟩", ylabel="held-out R²", ylim=(0, 1))
        right.set(title="sign of ⟨w*, z⟩", ylabel="held-out accuracy", ylim=(0.5, 1))
        right.figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)


# %%
def mean_curves(every_seed: Sequence[list[dict[str, float]]]) -> list[dict[str, float]]:
    """Curves of several seeds, averaged."""
    points = zip(*every_seed, strict=True)
    return [{key: sum(row[key] for row in rows) / len(rows) for key in rows[0]} for rows in points]


def spread(values: Sequence[float]) -> str:
    """Mean over the seeds, and their range."""
    mean = sum(values) / len(values)
    return f"{mean:.3g} ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else f"{mean:.3g}"


def weight_verdicts(sizes: Sizes, runs: Runs, finals: Finals, stage: int) -> list[Verdict]:
    """What the weights say; a claim holds if it does on every seed."""
    law = law_of(sizes)
    floor = minibatch_floor(**law, batch_size=sizes.batch_size, learning_rate=RATE)
    at_end = [next(look for look in run.looks if look["step"] == stage) for run in runs["masks"]]
    ratios = [look["dense_norm"] / look["sparse_norm"] for look in at_end]
    limit = f"in words; false beyond {largest_dense_growth(**law):.2g}-fold growth"
    small, biased = "no masks, small start", "no masks, growing biases"
    # claim, paper, arm, quantity, least value for it to hold
    rows = [
        ("masks: mean sparse share of ||w||² >= 0.9", "in words", "masks", "sparse_share", 0.9),
        ("masks: >= 70 % of active neurons are singletons", "in words", "masks", "singletons", 0.7),
        ("masks: >= 95 % of the atoms lead some neuron", "in words", "masks", "covered", 0.95),
        ("no masks: dense share >= 0.7", "in words", "no masks", "dense_share", 0.7),
        (
            "masks do it: sparse share >= 0.7 from the same start",
            "in words",
            "masks, large start",
            "sparse_share",
            0.7,
        ),
        ("no masks: dense share >= 0.7 from a small start, too", limit, small, "dense_share", 0.7),
        ("no masks: dense share >= 0.7 also if biases grow", "in words", biased, "dense_share", 0.7),
    ]
    measured = [[found[key] for found in finals[name]] for _, _, name, key, _ in rows]
    verdicts = [
        Verdict(claim, paper, spread(values), min(values) >= least)
        for (claim, paper, _, _, least), values in zip(rows, measured, strict=True)
    ]
    firing = {
        name: [found["firing_rate"] for found in finals[name]] for name in ("masks", biased, "no masks")
    }
    return [
        *verdicts,
        Verdict(
            "masks: stage I ends at the floor of mini-batches, within a factor 1.5",
            f"{floor:.3g} predicted",
            spread(ratios),
            all(1 / 1.5 <= ratio / floor <= 1.5 for ratio in ratios),
        ),
        Verdict(
            "few neurons (< 25 %) fire at a sample once biases have grown, with masks and without",
            "in words",
            "; ".join(map(spread, firing.values())) + " while they are 0",
            max(firing["masks"] + firing[biased]) < 0.25,
        ),
    ]


def downstream_verdicts(sizes: Sizes, curves: Curves) -> list[Verdict]:
    """What the probes say, on the mean over seeds."""
    law = law_of(sizes)
    soft = best_soft_threshold(law["probability"], law["noise_std"])[1]
    masks, without, raw = curves["masks"], curves["no masks"], curves["raw input"]
    many = [row["r2"] for row in masks if row["labels"] >= 6000] or [masks[-1]["r2"]]

    def pairs(features: list[dict[str, float]], key: str) -> list[tuple[float, float]]:
        return [(row[key], other[key]) for row, other in zip(features, raw, strict=True)]

    def against_raw(pairs: list[tuple[float, float]]) -> str:
        return ", ".join(f"{ours:.3f}/{theirs:.3f}" for ours, theirs in pairs)

    r2, accuracy, without_r2 = pairs(masks, "r2"), pairs(masks, "accuracy"), pairs(without, "r2")
    return [
        Verdict(
            f"masks: R² of <w*, z> >= 90 % of the best soft threshold's {soft:.3f} from 6000 labels",
            "in words",
            ", ".join(f"{value:.3f} ({value / soft:.0%})" for value in many),
            min(many) >= 0.9 * soft,
        ),
        Verdict(
            "masks: R² of <w*, z> above raw input's at every number of labels",
            "in words",
            against_raw(r2),
            all(ours > theirs for ours, theirs in r2),
        ),
        Verdict(
            "masks: accuracy of sign<w*, z> above raw input's at every number of labels",
            "in words",
            against_raw(accuracy),
            all(ours > theirs for ours, theirs in accuracy),
        ),
        Verdict(
            "no masks: R² of <w*, z> above raw input's at no number of labels",
            "in words",
            against_raw(without_r2),
            all(ours <= theirs for ours, theirs in without_r2),
        ),
        Verdict(
            f"no masks: R² of <w*, z> not above raw input's with {raw[-1]['labels']:g} labels",
            "in words",
            against_raw(without_r2[-1:]),
            without_r2[-1][0] <= without_r2[-1][1],
        ),
    ]


def rate_verdicts(rows: Sequence[dict[str, Any]]) -> list[Verdict]:
    """Whether norms grow in the linear stage as the population says, and as it says with the noise of mini-batches."""
    population, measured, with_noise = (
        ", ".join(f"{row[name]:+.4f}" for row in rows) for name in ("population", "measured", "with_noise")
    )
    (dense,) = (row for row in rows if row["arm"] == "masks" and row["part"] == "dense")
    return [
        Verdict(
            "stage I: ||sparse|| and ||dense|| with masks, then without, grow a step as predicted, within 10 %",
            f"population {population}",
            f"{measured}; predicted with mini-batches {with_noise}",
            all(abs(row["measured"] / row["with_noise"] - 1) < 0.1 for row in rows),
        ),
        Verdict(
            "stage I, masks: the dense part does not grow",
            f"population {dense['population']:+.4f} a step",
            f"{dense['measured']:+.4f}: the noise of mini-batches lifts it to its floor beside the sparse part",
            dense["measured"] <= 0,
        ),
    ]


# %%
def main(
    *,
    full: bool = False,
    output_dir: str = "runs/reproduce",
    num_seeds: int = 3,
    sizes: Sizes | None = None,
    shorten: float = 1.0,
    num_processes: int | None = None,
) -> list[Verdict]:
    """Train every arm on every seed, and write tables, figures and verdicts."""
    usual = Sizes(1024, 64, 512, 1024, (100, 300, 1000, 3000, 6000, 24000)) if full else Sizes()
    sizes = sizes or usual
    found = Reproduction("wen_li2021", output_dir)
    stage, start = stage_one_steps(sizes), large_start(sizes)
    arms = [
        Arm("masks", True, SMALL_START, True, 6.0 * shorten),
        Arm("no masks", False, start, False, 2.0 * shorten),
        Arm("masks, large start", True, start, True, 4.0 * shorten),
        Arm("no masks, growing biases", False, start, True, 4.0 * shorten),
        Arm("no masks, small start", False, SMALL_START, False, 2.0 * shorten),
    ]
    trials = [(sizes, seed, arm, stage) for seed in range(num_seeds) for arm in arms]
    runs: Runs = {arm.name: [] for arm in arms}
    for (_, _, arm, _), run in zip(
        trials, run_trials(train, trials, num_processes=num_processes), strict=True
    ):
        runs[arm.name].append(run)
    dictionaries = [world_of(sizes, seed, masks=False).dictionary for seed in range(num_seeds)]
    finals = {
        name: [final_values(run, dictionary) for run, dictionary in zip(every, dictionaries, strict=True)]
        for name, every in runs.items()
    }
    probes = {name: [run.curve for run in every] for name, every in runs.items()}
    probes["raw input"] = [probed(sizes, seed, lambda inputs: inputs) for seed in range(num_seeds)]
    curves = {name: mean_curves(every) for name, every in probes.items()}
    rates = rate_rows(sizes, arms, runs, stage)
    found.table("rates", rates)
    found.table("weights", [{"arm": name} | row for name, rows in finals.items() for row in rows])
    found.table("downstream", [{"features": name} | row for name, rows in curves.items() for row in rows])
    looks = [(name, seed, look) for name in runs for seed, run in enumerate(runs[name]) for look in run.looks]
    found.table("looks", [{"arm": name, "seed": seed} | look for name, seed, look in looks])
    plot_stages(found, sizes, arms, runs, stage)
    plot_atoms(found, runs, dictionaries[0])
    plot_downstream(found, sizes, curves)
    verdicts = [
        *weight_verdicts(sizes, runs, finals, stage),
        *downstream_verdicts(sizes, curves),
        *rate_verdicts(rates),
    ]
    found.verdicts(verdicts)
    return verdicts


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="twice the atoms and inputs; about eight minutes")
    parser.add_argument("--output-dir", default="runs/reproduce")
    arguments = parser.parse_args()
    main(full=arguments.full, output_dir=arguments.output_dir)
