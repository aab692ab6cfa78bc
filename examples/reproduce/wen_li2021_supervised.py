"""Wen, Li 2021: labels make the one layer of the sparse coding world learn what masked contrast does, the sparse part.

    python examples/reproduce/wen_li2021_supervised.py [--full]

Samples x = M z + xi hold few atoms and much dense noise, and labels <w*, z> know of the atoms only. The same layer of
symmetrised ReLUs from the same small start learns by contrast with masks, by contrast without, and from labels of many
tasks w*, without masks. What counts is the sparse share of the weights, whether neurons become single atoms, and how
alike the features are. Three minutes of one core; --full doubles all sizes.
"""

# %%
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_ssl_theory import FeatureDecouplingSSL, PretextSSL
from lightning_ssl_theory.callbacks import BiasSchedule
from lightning_ssl_theory.data import SparseCodingDataModule, random_task
from lightning_ssl_theory.metrics import activation_sparsity, dictionary_coverage, feature_norms, linear_cka
from lightning_ssl_theory.networks import SymmetrizedReLU
from lightning_ssl_theory.report import (
    Reproduction,
    Verdict,
    mean_verdict,
    paired_differences,
    plot_atoms,
    quiet_trainer,
    run_script,
    run_trials,
    values_of,
)
from lightning_ssl_theory.sparse_coding import dense_start_std, growth_rates

RATE, DECAY, SMALL_START, NUM_TASKS = 2.0, 1e-3, 1e-5, 64
MASKS, NO_MASKS, LABELS = "masks", "no masks", "labels"
ARMS = {LABELS: 6.0, MASKS: 6.0, NO_MASKS: 2.0}  # lengths, in lengths of the linear stage
Rows = list[dict[str, Any]]


class Sizes(NamedTuple):
    """What --full doubles."""

    num_features: int = 512
    num_atoms: int = 32
    num_neurons: int = 256
    batch_size: int = 1024

    def world(self, seed: int, *, masks: bool = False) -> SparseCodingDataModule:
        """Samples with the theorem's probability and noise."""
        return SparseCodingDataModule(*self[:2], masks=masks, batch_size=self.batch_size, seed=seed)


# %%
def module_of(sizes: Sizes, name: str, seed: int) -> Any:
    """The learner, contrastive or supervised, with the same layer from a start of its own size."""
    law = sizes.world(seed).law
    large = dense_start_std(**law, num_neurons=sizes.num_neurons, batch_size=sizes.batch_size)
    generator = torch.Generator().manual_seed(seed)
    network = SymmetrizedReLU(
        sizes.num_features,
        sizes.num_neurons,
        init_std=large if name == NO_MASKS else SMALL_START,
        generator=generator,
    )
    # the loss sums squares over the tasks
    rate = RATE / NUM_TASKS if name == LABELS else RATE
    optimizer = partial(torch.optim.SGD, lr=rate, weight_decay=DECAY * RATE / rate)
    if name != LABELS:
        return FeatureDecouplingSSL(network, optimizer=optimizer)
    tasks = torch.stack([random_task(sizes.num_atoms, generator=generator) for _ in range(NUM_TASKS)], dim=1)
    head = nn.Linear(sizes.num_neurons, NUM_TASKS, bias=False)
    head.weight.data.normal_(0.0, sizes.num_neurons**-0.5, generator=generator)

    def read(batch: Any) -> dict[str, Tensor]:
        return {"image": batch["image"], "pretext": batch["code"] @ tasks}

    return PretextSSL(network, head, pretext="target", read_batch=read, optimizer=optimizer)


def train(sizes: Sizes, name: str, num_stages: float, seed: int) -> tuple[dict[str, Any], Tensor, Tensor]:
    """What the weights hold of atoms and of noise, the weights, and features of held-out samples."""
    world, module = sizes.world(seed, masks=name == MASKS), module_of(sizes, name, seed)
    path = "backbone" if name == LABELS else "network"
    network = module.get_submodule(path)
    # steps of the linear stage, in which masks let the sparse part grow by e^4.4 = 80
    stage = round(4.4 / (RATE * growth_rates(**world.law, masks=True).sparse))
    biases = [BiasSchedule([path], start_step=stage, growth=RATE / sizes.num_atoms)]
    num_steps = round(num_stages * stage)
    trainer = quiet_trainer(
        *biases[: name != NO_MASKS], max_steps=num_steps, max_epochs=-1, limit_val_batches=0
    )
    trainer.fit(module, datamodule=world)
    weight = network.weight.detach()
    norms, coverage = feature_norms(weight, world.dictionary), dictionary_coverage(weight, world.dictionary)
    values = {
        "sparse_share": norms.sparse_share,
        "singleton_share": coverage.singleton_share,
        "covered_share": coverage.covered_share,
    }
    samples = world.draw(2000, generator=torch.Generator().manual_seed(10_000 + seed))
    with torch.no_grad():
        features = network(samples.inputs)
    row = {"features": name, "seed": seed} | {key: float(value) for key, value in values.items()}
    return row | {"firing_rate": float(activation_sparsity(features).firing_rate)}, weight, features


# %%
def judge(rows: Rows) -> list[Verdict]:
    """What the theory says of the features that labels and contrast find."""
    found = {(key, name): values_of(rows, key, features=name) for key in rows[0] for name in ARMS}
    shares = {name: found["sparse_share", name] for name in ARMS}
    alike = paired_differences(found["resemblance", NO_MASKS], found["resemblance", MASKS])
    return [
        mean_verdict("labels: sparse share of ||W||² > 0.9", shares[LABELS], above=0.9),
        mean_verdict("contrast with masks: sparse share > 0.9", shares[MASKS], above=0.9),
        mean_verdict("contrast without masks: sparse share < 0.3", shares[NO_MASKS], below=0.3),
        mean_verdict(
            "labels: > 70 % of active neurons are singletons", found["singleton_share", LABELS], above=0.7
        ),
        mean_verdict(
            "contrast with masks resembles labels more than contrast without",
            alike,
            above=0,
            note="difference of linear CKA of features",
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
    """Train every arm on every seed, and write the table, the figure and the verdicts."""
    sizes = sizes or (Sizes(1024, 64, 512) if full else Sizes())
    trials = [
        (sizes, name, shorten * num_stages, seed)
        for seed in range(num_seeds)
        for name, num_stages in ARMS.items()
    ]
    results = run_trials(train, trials, num_processes=num_processes)
    rows = [row for row, _, _ in results]
    features = {(row["features"], row["seed"]): own for row, _, own in results}
    for row in rows:
        own, labels = (features[name, row["seed"]] for name in (row["features"], LABELS))
        row["resemblance"] = float(linear_cka(own, labels))
    found = Reproduction("wen_li2021_supervised", output_dir)
    found.table("supervised", rows)
    with found.figure("atoms", num_columns=len(ARMS)) as axes:
        plot_atoms(
            axes,
            {row["features"]: weight for row, weight, _ in results[: len(ARMS)]},
            sizes.world(0).dictionary,
        )
    return found.verdicts(judge(rows))


# %%
if __name__ == "__main__":
    run_script(main, full="twice the atoms and inputs", num_seeds="trainings of every arm")
