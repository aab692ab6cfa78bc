"""Tian, Yu, Chen, Ganguli 2020, Sections 5 and 6: neurons learn the latents of a tree that they never see.

    python examples/reproduce/tian2020_latent_tree.py [--full]

Trains networks wired like the tree and compares, before and after, the correlation of each latent with the best
neuron of its group (NC, of pre-activations), the lucky nodes, Theorem 6 and the operators. About five minutes on two
cores, one training on each; --full trains longer, on deeper trees too, and crosses sizes with polarities.
"""

# %%
import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import LatentTreeMonitor
from lightning_ssl_theory.data import LatentTreeDataModule, root_correlations
from lightning_ssl_theory.losses import InfoNCELoss, SimpleContrastiveLoss, SoftTripletLoss
from lightning_ssl_theory.networks import LatentTreeNetwork
from lightning_ssl_theory.report import Reproduction, Verdict, run_trials

BATCH, LEARNING_RATE, STEPS_PER_EPOCH, NUM_VALIDATION = 128, 0.1, 50, 6400
GROUP_SIZES, LOWEST_POLARITIES = (2, 5, 10), (0.7, 0.8, 0.9)
# Gain of NC at levels 2 to 5 after 500 steps with the network, loss and first weights of the authors' code on trees
# sampled by the same law, measured by us: mean and standard error. Trees differ widely, at level 2 by 0.0045, so that
# three say little; `benchmarks/latent_tree_gain.py` compares ours with a network like theirs on the same trees.
REFERENCE_GAINS = {
    "3 trees": torch.tensor([[0.0102, 0.0248, 0.0475, 0.0530], [0.0044, 0.0094, 0.0080, 0.0032]]),
    "120 trees": torch.tensor([[0.0060, 0.0285, 0.0605, 0.0882], [0.0004, 0.0012, 0.0030, 0.0049]]),
}


class RatioLoss(nn.Module):
    """The loss of the authors' code: one negative, distances averaged over the batch, a ratio and no logarithm."""

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        positive, negative = (z1 - z2).square().mean(), (z1 - z2.roll(1, 0)).square().mean()
        return -torch.sigmoid((negative - positive) / self.temperature)


LOSSES = {
    "ratio (reference)": RatioLoss(),
    "InfoNCE": InfoNCELoss(temperature=0.5),
    "soft triplet": SoftTripletLoss(temperature=0.5, margin=1.0, distance="cosine"),
    "simple": SimpleContrastiveLoss(distance="cosine"),
}


class Setting(NamedTuple):
    """What is varied."""

    loss: str = "ratio (reference)"
    group_size: int = 10
    lowest_polarity: float = 0.9
    depth: int = 5


class History(Callback):
    """Every look of the monitor, level by level."""

    def __init__(self, monitor: LatentTreeMonitor) -> None:
        self.monitor = monitor
        self.looks: list[dict[str, Any]] = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.looks.append(dict(self.monitor.levels))


Runs = list[list[dict[str, Any]]]  # for each seed the looks; a look has a LatentLevel for each level


# %%
def tree_data(setting: Setting, seed: int) -> LatentTreeDataModule:
    """A tree with its own polarities for each seed."""
    return LatentTreeDataModule(
        setting.depth,
        polarity=(setting.lowest_polarity, 1.0),
        batch_size=BATCH,
        num_samples=STEPS_PER_EPOCH * BATCH,
        num_val_samples=NUM_VALIDATION,
        seed=seed,
    )


def train(setting: Setting, seed: int, num_epochs: int, look_every: int) -> list[dict[str, Any]]:
    """Looks before training, every so many epochs, and after it."""
    data = tree_data(setting, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = LatentTreeNetwork(setting.depth, group_size=setting.group_size, is_normalized=True)
    module = ContrastiveSSL(
        network,
        nn.Identity(),
        LOSSES[setting.loss],
        optimizer=partial(torch.optim.SGD, lr=LEARNING_RATE),
    )
    monitor = LatentTreeMonitor(strict=True)
    history = History(monitor)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=num_epochs,
        callbacks=[monitor, history],
        check_val_every_n_epoch=look_every,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.validate(module, datamodule=data, verbose=False)
    trainer.fit(module, datamodule=data)
    return history.looks


def correlations(runs: Runs) -> tuple[Tensor, Tensor]:
    """NC before and after, means over the latents of each level: (seeds, levels) each, level 1 first."""
    return before_and_after(runs, "normalized_correlation")


def before_and_after(runs: Runs, quantity: str) -> tuple[Tensor, Tensor]:
    """Means over the latents of each level before and after training: (seeds, levels) each, level 1 first."""
    before, after = (
        torch.stack(
            [torch.stack([getattr(level, quantity).mean() for level in looks[i].values()]) for looks in runs]
        )
        for i in (0, -1)
    )
    return before, after


def standard_error(values: Tensor) -> Tensor:
    """Of the mean over the first dimension."""
    return values.std(0) / len(values) ** 0.5


def correlation_rows(results: dict[Setting, Runs]) -> list[dict[str, Any]]:
    """One row for each setting and level."""
    rows = []
    for setting, runs in results.items():
        before, after = correlations(runs)
        gain = after - before
        for level in range(setting.depth):
            numbers = {
                "nc_before": before[:, level].mean(),
                "nc_after": after[:, level].mean(),
                "gain": gain[:, level].mean(),
                "gain_stderr": standard_error(gain)[level],
            }
            rows.append(
                setting._asdict()
                | {"level": level + 1, "seeds": len(runs)}
                | {name: round(value.item(), 4) for name, value in numbers.items()}
            )
    return rows


def lucky_shares(runs: Runs, levels: Sequence[str], quantity: str, look: int = -1) -> Tensor:
    """For each seed the share of latents whose lucky node has the largest correlation, or w.a, in a look."""
    shares = []
    for looks in runs:
        found = [looks[look][name] for name in levels]
        lucky = torch.cat([level.lucky_node for level in found])
        if quantity == "correlation":
            best = torch.cat([level.best_node for level in found])
        else:
            best = torch.cat([level.alignment.argmax(1) for level in found])
        if bool((lucky >= 0).any()):
            shares.append((lucky == best)[lucky >= 0].double().mean())
    return torch.stack(shares)


def lucky_rows(runs: Runs) -> list[dict[str, Any]]:
    """How often the lucky node of the start leads its group, before and after training."""
    rows = []
    for name, level in runs[0][0].items():
        for quantity in ("correlation", "selectivity"):
            before, after = (lucky_shares(runs, [name], quantity, look) for look in (0, -1))
            rows.append(
                {
                    "level": int(name.removeprefix("level_")),
                    "largest": quantity,
                    "before": round(before.mean().item(), 3),
                    "after": round(after.mean().item(), 3),
                    "stderr": round(standard_error(after).item(), 3),
                    "chance": 1 / level.selectivity.shape[1],
                }
            )
    return rows


def theorem_rows(runs: Runs) -> list[dict[str, Any]]:
    """Theorem 6 from 6400 samples, the worst latent of each level: rank one, direction a_mu, size rho_0mu^2."""
    rows = []
    depth = len(runs[0][0])
    to_root = [
        root_correlations(tree_data(Setting(depth=depth), seed).polarities) for seed in range(len(runs))
    ]
    for level in range(1, depth + 1):
        size = torch.cat([products[depth - level] for products in to_root]).square()
        for when, look in (("before", 0), ("after", -1)):
            found = [looks[look][f"level_{level}"] for looks in runs]
            scale = torch.cat([one.rank_one_scale for one in found])
            numbers = {
                "leading_share": torch.cat([one.rank_one_share for one in found]).min(),
                "cosine_with_a": torch.cat([one.rank_one_cosine for one in found]).min(),
                "error_of_size": (scale / size - 1).abs().max(),
            }
            rows.append(
                {"level": level, "training": when}
                | {name: round(value.item(), 4) for name, value in numbers.items()}
            )
    return rows


# %%
def draw_correlations(reproduction: Reproduction, results: dict[Setting, Runs], base: Setting) -> None:
    """NC before and after: by level for two losses, and at the root over |N_mu| and polarity."""
    sizes = [base._replace(group_size=size) for size in GROUP_SIZES]
    lows = [base._replace(lowest_polarity=low) for low in LOWEST_POLARITIES]
    with reproduction.figure("correlation", num_rows=2, num_columns=2) as axes:
        for axis, loss in zip(axes, ("ratio (reference)", "InfoNCE"), strict=False):
            levels = list(range(1, base.depth + 1))
            draw_pair(
                axis, levels, [nc.T for nc in correlations(results[base._replace(loss=loss)])], "lower left"
            )
            axis.set(title=loss, xlabel="level (1: parents of the leaves)", ylim=(0.75, 1), xticks=levels)
        for axis, settings, places in ((axes[2], sizes, GROUP_SIZES), (axes[3], lows, LOWEST_POLARITIES)):
            found = [correlations(results[setting]) for setting in settings]
            draw_pair(axis, places, [[pair[when][:, -1] for pair in found] for when in (0, 1)], "lower right")
            axis.set(xticks=places)
        axes[2].set(title="The root, by the size of groups", xlabel="neurons of a group")
        axes[3].set(title="The root, by polarity", xlabel="lowest polarity; the largest is 1")


def draw_pair(axis: Any, places: Sequence[float], pairs: Sequence[Sequence[Tensor]], legend: str) -> None:
    """Means over seeds before and after training, with two standard errors."""
    for values, label, colour in zip(pairs, ("before", "after"), ("#8d939c", "#2f6db5"), strict=True):
        means, bars = [value.mean() for value in values], [2 * standard_error(value) for value in values]
        axis.errorbar(places, means, bars, marker="o", capsize=3, label=label, color=colour)
    axis.set(ylabel="NC")
    axis.legend(loc=legend)


def draw_training(reproduction: Reproduction, looks: list[dict[str, Any]]) -> None:
    """One run over time: correlation, operators, and the neurons of the root."""
    steps = [STEPS_PER_EPOCH * epoch for epoch in range(len(looks))]
    with reproduction.figure("training", num_columns=3) as axes:
        for level, name in enumerate(looks[0], start=1):
            for axis, quantity in zip(axes, ("normalized_correlation", "operator_norm"), strict=False):
                axis.plot(
                    steps, [getattr(look[name], quantity).mean() for look in looks], label=f"level {level}"
                )
        axes[0].set(title="Correlation with the latents", xlabel="step", ylabel="NC")
        axes[1].set(title="Size of the operators", xlabel="step", ylabel="mean Frobenius norm", yscale="log")
        root = list(looks[0])[-1]
        alignment = torch.stack([look[root].alignment[0] for look in looks])
        lucky = int(looks[0][root].lucky_node[0])
        for node, values in enumerate(alignment.T):
            style = {"color": "#d9741f", "linewidth": 2.4, "zorder": 3, "label": "lucky node"}
            axes[2].plot(steps, values, **(style if node == lucky else {"color": "#b9bec6"}))
        axes[2].set(title="Neurons of the root", xlabel="step", ylabel="selectivity w · a")
        axes[0].legend()
        axes[2].legend()


# %%
def judge(results: dict[Setting, Runs], base: Setting) -> list[Verdict]:
    """The claims, with what was measured here."""
    verdicts = []
    for loss in ("ratio (reference)", "InfoNCE"):
        before, after = correlations(results[base._replace(loss=loss)])
        gains = (after - before)[:, 1:]
        for trees, (reference, reference_error) in REFERENCE_GAINS.items():
            error = (standard_error(gains).square() + reference_error.square()).sqrt()
            verdicts.append(
                Verdict(
                    f"{loss} loss: NC rises at levels 2 to 5 as with the authors' code on {trees}, or more",
                    f"authors' code, 500 steps: {signed(reference)}",
                    f"{signed(gains.mean(0))} (2 s.e. {plain(2 * standard_error(gains))}, "
                    f"of the difference {plain(2 * error)})",
                    bool((gains.mean(0) >= reference - 2 * error).all()),
                )
            )
    sizes = [base._replace(group_size=size) for size in GROUP_SIZES]
    lows = [base._replace(lowest_polarity=low) for low in LOWEST_POLARITIES]
    for settings, what in ((sizes, "the size of the groups"), (lows, "the polarity")):
        verdicts.append(growth_verdict(results, settings, what))
    return [*verdicts, *lucky_verdicts(results[base]), *theorem_verdicts(results[base])]


def growth_verdict(results: dict[Setting, Runs], settings: list[Setting], what: str) -> Verdict:
    """Whether NC after training grows from setting to setting, on the seeds that all have."""
    num_seeds = min(len(results[setting]) for setting in settings)
    before, after = zip(*(correlations(results[setting][:num_seeds]) for setting in settings), strict=True)
    here, holds = [], True
    for where, levels in (("root", slice(-1, None)), ("levels 2 to 5", slice(1, None))):
        first, last = (torch.stack([nc[:, levels].mean(1) for nc in pair]) for pair in (before, after))
        errors = 2 * standard_error(last.mT)
        here.append(
            f"{where} {short(last.mean(1))} (2 s.e. {short(errors)}), untrained {short(first.mean(1))}"
        )
        holds = holds and all(bool(a < b) for a, b in pairwise(last.mean(1)))
    return Verdict(f"NC after training grows with {what}", "in words", "; ".join(here), holds)


def lucky_verdicts(runs: Runs) -> list[Verdict]:
    """Whether the lucky nodes win where NC moves most: at level 3 and above, errors over seeds."""
    levels = list(runs[0][0])[2:]
    chance = 1 / runs[0][0][levels[0]].selectivity.shape[1]
    verdicts = []
    for quantity, what in (("correlation", "has the largest NC"), ("selectivity", "keeps the largest w.a")):
        before, after = (lucky_shares(runs, levels, quantity, look) for look in (0, -1))
        share, error = after.mean().item(), standard_error(after).item()
        verdicts.append(
            Verdict(
                f"The lucky node of the start usually {what} at the end: levels 3 and above",
                "in words",
                f"{share:.0%} (s.e. {error:.0%}), untrained {before.mean():.0%}, chance {chance:.0%}",
                share - 2 * error > 0.5,
            )
        )
    return verdicts


def theorem_verdicts(runs: Runs) -> list[Verdict]:
    """Theorem 6, and what it does to the levels."""
    rows = theorem_rows(runs)

    def worst(name: str, pick: Callable[..., float]) -> tuple[float, float]:
        before, after = (
            pick(row[name] for row in rows if row["training"] == when) for when in ("before", "after")
        )
        return before, after

    shares, cosines = worst("leading_share", min), worst("cosine_with_a", min)
    errors = worst("error_of_size", max)
    before, after = correlations(runs)
    gain = (after - before).mean(0)
    start, end = before_and_after(runs, "operator_norm")
    growth = (end.mean(0) / start.mean(0)).tolist()
    exactly = f"exactly; here from {NUM_VALIDATION} samples"
    return [
        Verdict(
            "Thm 6: the children's covariance over roots has rank one",
            exactly,
            f"leading share {shares[1]:.3f} in the worst latent, untrained {shares[0]:.3f}",
            min(shares) > 0.95,
        ),
        Verdict(
            "Thm 6: its direction is a_mu",
            exactly,
            f"cosine {cosines[1]:.4f} in the worst latent, untrained {cosines[0]:.4f}",
            min(cosines) > 0.99,
        ),
        Verdict(
            "Thm 6: its size is rho_0mu^2 |a_mu|^2",
            exactly,
            f"within {errors[1]:.1%} in the worst latent, untrained {errors[0]:.1%}",
            max(errors) < 0.1,
        ),
        Verdict("NC rises less at lower levels", "in words", signed(gain), bool((gain.diff() > 0).all())),
        Verdict(
            "The operators grow in training, most at the top",
            "in words",
            "times " + ", ".join(f"{ratio:.0f}" for ratio in growth),
            all(ratio > 1 for ratio in growth) and growth[-1] == max(growth),
        ),
    ]


def plain(values: Tensor) -> str:
    """Numbers in a row."""
    return ", ".join(f"{value:.4f}" for value in values)


def short(values: Tensor) -> str:
    """Numbers in a row, shorter."""
    return ", ".join(f"{value:.3f}" for value in values)


def signed(values: Tensor) -> str:
    """Numbers with their signs."""
    return ", ".join(f"{value:+.4f}" for value in values)


# %%
def main(
    *,
    full: bool = False,
    output_dir: str = "runs/reproduce",
    num_seeds: int = 30,
    num_epochs: int | None = None,
    num_processes: int | None = None,
) -> list[Verdict]:
    """Train in all settings, and write tables, figures and verdicts."""
    num_epochs = num_epochs or (40 if full else 10)
    few_seeds = max(2, num_seeds // 3)
    base = Setting()
    seeds = {base._replace(loss=loss): num_seeds for loss in ("ratio (reference)", "InfoNCE")}
    seeds |= {base._replace(group_size=size): num_seeds for size in GROUP_SIZES}
    seeds |= {base._replace(lowest_polarity=low): few_seeds for low in LOWEST_POLARITIES[:-1]}
    others = [base._replace(loss=loss) for loss in LOSSES] + [base._replace(depth=3)]
    if full:
        others += [base._replace(depth=7)]
        others += [
            Setting(lowest_polarity=low, group_size=n) for low in LOWEST_POLARITIES for n in GROUP_SIZES
        ]
    seeds |= {setting: few_seeds for setting in others if setting not in seeds}
    trials = [(setting, seed, num_epochs, num_epochs) for setting, n in seeds.items() for seed in range(n)]
    *runs, history = run_trials(train, [*trials, (base, 0, num_epochs, 1)], num_processes=num_processes)
    results: dict[Setting, Runs] = {}
    for (setting, *_), looks in zip(trials, runs, strict=True):
        results.setdefault(setting, []).append(looks)
    reproduction = Reproduction("tian2020_latent_tree", output_dir)
    reproduction.table("correlation", correlation_rows(results))
    reproduction.table("lucky_nodes", lucky_rows(results[base]))
    reproduction.table("theorem_6", theorem_rows(results[base]))
    draw_correlations(reproduction, results, base)
    draw_training(reproduction, history)
    verdicts = judge(results, base)
    reproduction.verdicts(verdicts)
    return verdicts


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--full", action="store_true", help="2000 steps, depth 7, every size at every polarity"
    )
    parser.add_argument("--num-seeds", type=int, default=30, help="a third of them for less important rows")
    parser.add_argument("--output-dir", default="runs/reproduce")
    arguments = parser.parse_args()
    main(full=arguments.full, num_seeds=arguments.num_seeds, output_dir=arguments.output_dir)
