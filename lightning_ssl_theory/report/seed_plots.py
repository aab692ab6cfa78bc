"""Figures of quantities that were measured on several seeds: means with their errors, or a line a seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning_ssl_theory.report.mean_over_seeds import seed_mean
from lightning_ssl_theory.report.rows import values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_means(axes: Axes, places: Sequence[float], values: Sequence[Iterable[float]], **style: Any) -> None:
    """Mean over the seeds at every place, with its 95 % interval where there are two seeds or more.

    Args:
        axes: Where to draw.
        places: Horizontal positions.
        values: For every place one number a seed.
        **style: Of the line.
    """
    found = [seed_mean(numbers) for numbers in values]
    bars = [one.half_width() if one.num_seeds > 1 else 0.0 for one in found]
    look: dict[str, Any] = {"marker": "o", "markersize": 3.5, "capsize": 2.5} | style
    axes.errorbar(places, [one.value for one in found], bars, **look)


def plot_seeds(
    axes: Axes, places: Sequence[float], values: Iterable[Sequence[float]], *, label: str = "", **style: Any
) -> None:
    """One line for each seed in the same style, under one label; in the axes' next colour unless `color` is given.

    Args:
        axes: Where to draw.
        places: Horizontal positions.
        values: For every seed one number a place.
        label: Of the legend.
        **style: Of the lines.
    """
    look: dict[str, Any] = {"linewidth": 1.2, "alpha": 0.7} | style
    for index, numbers in enumerate(values):
        (line,) = axes.plot(places, numbers, **look, label=None if index else label or None)
        look |= {"color": line.get_color()}


def plot_columns(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
    *,
    over: str = "step",
    **where: Any,
) -> None:
    """Columns of a table over another one: a colour for each, in it a line for each seed.

    Args:
        axes: Where to draw.
        rows: The table, with a column "seed"; every seed has rows at the same places.
        labels: Of the legend, by column.
        over: The column of places, which also names the axis.
        **where: What other columns must hold, as for `values_of`.
    """
    seeds = list(dict.fromkeys(values_of(rows, "seed", **where)))
    for key, label in labels.items():
        values = [values_of(rows, key, seed=seed, **where) for seed in seeds]
        plot_seeds(axes, values_of(rows, over, seed=seeds[0], **where), values, label=label)
    axes.set_xlabel(over)
