"""Wen, Li 2021: what sparse features are good for, by linear probes over the number of labels.

    python examples/reproduce/wen_li2021_downstream.py [--full]

The one layer of wen_li2021.py learns from samples x = M z + xi with masked views and without. Linear probes then read
<w*, z> and its sign from its features and from raw input, for many tasks w*; closed forms tell what the best linear,
thresholded and Bayesian readers could reach. Four minutes of one core; --full doubles all sizes.
"""

# %%
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory import FeatureDecouplingSSL
from lightning_ssl_theory.callbacks import BiasSchedule
from lightning_ssl_theory.data import SparseCodingDataModule, random_task, task_labels
from lightning_ssl_theory.networks import SymmetrizedReLU
from lightning_ssl_theory.probes import LabelledFeatures, label_curve
from lightning_ssl_theory.report import (
    Reproduction,
    Verdict,
    joint_verdict,
    paired_differences,
    plot_label_curves,
    quiet_trainer,
    run_script,
    run_trials,
    values_of,
)
from lightning_ssl_theory.sparse_coding import (
    bayes_r2,
    best_soft_threshold,
    dense_start_std,
    growth_rates,
    linear_r2,
)

RATE, DECAY, NUM_TASKS, SMALL_START = 2.0, 1e-3, 8, 1e-5

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
    def caps(self) -> dict[str, float]:
        """R^2 that readers of all samples could reach."""
        law = {key: self.world().law[key] for key in ("probability", "noise_std")}
        _, soft = best_soft_threshold(**law)
        return {"Bayes": bayes_r2(**law), "best soft threshold": soft, "best linear": linear_r2(**law)}


class Arm(NamedTuple):
    """One way to learn; its length is counted in lengths of the linear stage."""

    name: str
    masks: bool
    has_large_start: bool
    grows_biases: bool
    num_stages: float


# %%
def train(sizes: Sizes, arm: Arm, seed: int) -> Rows:
    """Linear probes on what was learned."""
    world = sizes.world(seed, masks=arm.masks)
    # steps of the linear stage, in which masks let the sparse part grow by e^4.4 = 80
    stage = round(4.4 / (RATE * growth_rates(**world.law, masks=True).sparse))
    large = dense_start_std(**world.law, num_neurons=sizes.num_neurons, batch_size=sizes.batch_size)
    network = SymmetrizedReLU(
        sizes.num_features,
        sizes.num_neurons,
        init_std=large if arm.has_large_start else SMALL_START,
        generator=torch.Generator().manual_seed(seed),
    )
    optimizer = partial(torch.optim.SGD, lr=RATE, weight_decay=DECAY)
    biases = [BiasSchedule(["network"], start_step=stage, growth=RATE / sizes.num_atoms)]
    num_steps = round(arm.num_stages * stage)
    trainer = quiet_trainer(
        *biases[: arm.grows_biases], max_steps=num_steps, max_epochs=-1, limit_val_batches=0
    )
    trainer.fit(FeatureDecouplingSSL(network, optimizer=optimizer), datamodule=world)
    return probed(sizes, arm.name, seed, network)


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


# %%
def draw(found: Reproduction, sizes: Sizes, curves: Rows) -> None:
    """R^2 and accuracy over the number of labels."""
    with found.figure("downstream", num_columns=2) as (left, right):
        plot_label_curves(left, curves, "r2", caps=sizes.caps)
        plot_label_curves(right, curves, "accuracy")
        left.set(title="regression onto ⟨w*, z⟩", ylabel="held-out R²", ylim=(0, 1))
        right.set(title="sign of ⟨w*, z⟩", ylabel="held-out accuracy", ylim=(0.5, 1))
        right.figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def judge(sizes: Sizes, curves: Rows) -> list[Verdict]:
    """What the probes say, at every number of labels together."""
    soft, last = sizes.caps["best soft threshold"], sizes.labels[-1]
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
    """Train every arm on every seed, probe it and raw input, and write table, figure and verdicts."""
    usual = Sizes(1024, 64, 512, 1024, (100, 300, 1000, 3000, 6000, 24000)) if full else Sizes()
    sizes = sizes or usual
    arms = [
        Arm("masks", True, False, True, 6.0 * shorten),
        Arm("no masks", False, True, False, 2.0 * shorten),
        Arm("no masks, growing biases", False, True, True, 4.0 * shorten),
    ]
    trials = [(sizes, arm, seed) for arm in arms for seed in range(num_seeds)]
    curves = [row for rows in run_trials(train, trials, num_processes=num_processes) for row in rows]
    for seed in range(num_seeds):
        curves += probed(sizes, "raw input", seed, lambda inputs: inputs)
    found = Reproduction("wen_li2021_downstream", output_dir)
    found.table("downstream", curves)
    draw(found, sizes, curves)
    return found.verdicts(judge(sizes, curves))


# %%
if __name__ == "__main__":
    run_script(main, full="twice the atoms and inputs", num_seeds="trainings of every arm")
