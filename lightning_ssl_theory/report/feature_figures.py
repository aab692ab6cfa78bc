"""Figures of what a network of images has learned: its filters, its embedding, and how seldom its neurons fire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_ssl_theory.report.world_figures import GREY
from lightning_ssl_theory.tracing.filter_images import filter_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor


def plot_filters(axes: Axes, weight: Tensor, *, num_columns: int = 8) -> None:
    """Filters of a first layer in a grid, each scaled to its own largest weight; grey is zero.

    Args:
        axes: Where to draw.
        weight: As `filter_images` takes it.
        num_columns: Filters side by side.
    """
    images = filter_images(weight)
    assert images is not None, "the layer looks at pixels"
    num_filters, _, height, width = images.shape
    num_rows = -(-num_filters // num_columns)
    grid = images.new_ones(num_rows * (height + 1) - 1, num_columns * (width + 1) - 1, 3)
    scaled = 0.5 + images / (2 * images.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-30))
    for index, image in enumerate(scaled):
        top, left = index // num_columns * (height + 1), index % num_columns * (width + 1)
        grid[top : top + height, left : left + width] = image.permute(1, 2, 0)
    axes.imshow(grid.numpy(), interpolation="nearest")
    axes.axis("off")


def plot_embedding(axes: Axes, places: Tensor, labels: Tensor) -> None:
    """Samples in a plane in the colours of their classes.

    Args:
        axes: Where to draw.
        places: (N, 2), by PCA or t-SNE; their scale means nothing and is not shown.
        labels: Classes, (N,); ten colours are told apart.
    """
    axes.scatter(places[:, 0], places[:, 1], c=labels, cmap="tab10", s=8, linewidths=0, alpha=0.85)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)


def plot_firing_rates(axes: Axes, rates: Tensor, *, before: Tensor | None = None, dense: float = 0.5) -> None:
    """Histogram of the share of samples at which each neuron fires.

    Args:
        axes: Where to draw.
        rates: (D,), in [0, 1].
        before: The same of the untrained network, drawn as an outline.
        dense: Above it a neuron counts as dense; a dotted line.
    """
    axes.hist(rates, bins=20, range=(0, 1), alpha=0.85)
    if before is not None:
        axes.hist(before, bins=20, range=(0, 1), histtype="step", color=GREY, label="untrained")
    axes.axvline(dense, color="black", linewidth=0.9, linestyle=":")
    axes.set(xlabel="share of images at which a neuron fires", xlim=(0, 1))
