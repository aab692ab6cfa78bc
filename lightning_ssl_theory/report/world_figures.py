"""Figures of the two worlds in which the truth is known: atoms that neurons learn, neurons that learn a latent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning_ssl_theory.report.rows import values_of
from lightning_ssl_theory.report.seed_plots import plot_means

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

GREY = "#8d939c"


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
        style = {"color": "black", "linestyle": (0, (4, 3)), "linewidth": 1.2} if name == dashed else {}
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
