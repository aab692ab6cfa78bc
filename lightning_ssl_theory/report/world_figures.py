"""Figures of the two worlds in which the truth is known: atoms that neurons learn, neurons that learn a latent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning_ssl_theory.report.rows import values_of
from lightning_ssl_theory.report.seed_plots import plot_columns, plot_means

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

GREY = "#8d939c"
DASHED: dict[str, Any] = {"color": "black", "linestyle": (0, (4, 3)), "linewidth": 1.2}
SHARES = {
    "active_singleton_share": "singletons",
    "covered_share": "atoms covered",
    "leading_atom_share": "leading atom's share",
    "firing_rate": "firing rate",
}


def plot_atoms(axes: Sequence[Axes], weights: Mapping[str, Tensor], dictionary: Tensor) -> None:
    """Cosines of all neurons with all atoms of a dictionary, a picture a weight; neurons by their leading atom.

    Args:
        axes: One for each weight.
        weights: By title, (neurons, d1) each.
        dictionary: M, (d1, d), orthonormal columns.
    """
    image: Any = None
    for one, (title, weight) in zip(axes, weights.items(), strict=True):
        cosines = (weight @ dictionary).abs() / weight.norm(dim=1, keepdim=True)
        ordered = cosines[cosines.argmax(1).argsort()]
        image = one.imshow(ordered, aspect="auto", cmap="Blues", vmin=0, vmax=1)
        one.set(title=title, xlabel="atom")
        one.grid(visible=False)
    axes[0].set_ylabel("neuron, sorted by its leading atom")
    axes[-1].figure.colorbar(image, ax=axes[-1], label="|cosine|")


def plot_stages(
    axes: Sequence[Axes],
    looks: Sequence[Mapping[str, Any]],
    predicted: Mapping[str, Tensor],
    *,
    compared: str,
    stage: int,
    floor: float,
) -> None:
    """Four panels on learning a sparse coding world: norms of two arms, dense over sparse, and singletons of the first.

    Args:
        axes: Four.
        looks: Of `FeatureNormMonitor`, with columns `arm`, `seed`, `step` and `ratio`, dense_norm / sparse_norm.
        predicted: Of `stage_one_norms`, (T + 1, 2), for the two arms by name, the one with masks first.
        compared: Another arm whose ratio is shown.
        stage: Length of the linear stage; then the biases of the first arm grow.
        floor: The ratio at which it should end, `minibatch_floor`.
    """
    first, second = predicted
    for one, (arm, norms) in zip(axes, predicted.items(), strict=False):
        plot_columns(one, looks, {"sparse_norm": "sparse", "dense_norm": "dense"}, arm=arm)
        one.plot(norms, **DASHED)
        one.plot([], [], label="predicted, linear stage", **DASHED)
        one.set(title=arm, ylabel="squared norm", yscale="log")
    for arm in (first, second, compared):
        plot_columns(axes[2], looks, {"ratio": arm}, arm=arm)
    axes[2].plot([0, stage], [floor, floor], label="predicted floor of stage I", **DASHED)
    axes[2].set(title="dense / sparse", ylabel="ratio of squared norms", yscale="log")
    plot_columns(axes[3], looks, SHARES, arm=first)
    axes[3].set(title=f"{first}; grey: biases begin to grow", ylabel="share", ylim=(0, 1.06))
    for one in (axes[0], axes[3]):
        one.axvline(stage, color=GREY, lw=0.8)
    for one in axes[:3]:
        one.legend(fontsize=8)
    axes[3].legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.18, 0.93))


def plot_label_curves(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    key: str,
    *,
    dashed: str = "raw input",
    caps: Mapping[str, float] | None = None,
) -> None:
    """A score over the number of labels, means over seeds, a line for each kind of features.

    Args:
        axes: Where to draw.
        rows: Of `label_curve`, with columns `features` and `seed`.
        key: "r2" or "accuracy".
        dashed: Features that serve for comparison.
        caps: Heights of what no probe can exceed, by name.
    """
    counts = sorted({row["labels"] for row in rows})
    for name in dict.fromkeys(row["features"] for row in rows):
        values = [values_of(rows, key, features=name, labels=count) for count in counts]
        style = DASHED if name == dashed else {}
        plot_means(axes, counts, values, label=name, **style)
    for name, cap in (caps or {}).items():
        axes.axhline(cap, color=GREY, lw=0.8, zorder=0)
        axes.annotate(name, (counts[0], cap), va="bottom", fontsize=8, color="#5d636d")
    axes.set(xlabel="labels", xscale="log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()


def plot_lucky_node(axes: Axes, steps: Sequence[int], alignments: Tensor, lucky: int) -> None:
    """Selectivities of all neurons of a latent over training, the lucky node's on top.

    Args:
        axes: Where to draw.
        steps: T numbers of steps.
        alignments: (T, neurons).
        lucky: Which neuron was lucky before the first step; -1 for none.
    """
    for node, values in enumerate(alignments.T):
        style = {"color": "#d9741f", "linewidth": 2.4, "zorder": 3, "label": "lucky node"}
        axes.plot(steps, values, **(style if node == lucky else {"color": "#b9bec6"}))
    axes.set(xlabel="step", ylabel="selectivity w · a")
    if lucky >= 0:
        axes.legend()
