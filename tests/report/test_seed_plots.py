"""Lines of seeds and of their means."""

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from lightning_ssl_theory.report import plot_means, plot_seeds, seed_mean
from lightning_ssl_theory.report.seed_plots import plot_columns


def test_means_and_their_errors():
    axes = Figure().subplots()
    values = [[1.0, 2.0, 3.0], [4.0], [5.0, 7.0]]
    plot_means(axes, [8, 16, 32], values, label="tanh", color="C1")
    line, caps, _ = axes.containers[0].lines
    assert line.get_xdata().tolist() == [8, 16, 32]
    assert line.get_ydata().tolist() == [2, 4, 6]
    half = [seed_mean(values[0]).half_width(), 0, seed_mean(values[2]).half_width()]
    assert (caps[1].get_ydata() - line.get_ydata()).tolist() == pytest.approx(half)


def test_one_label_for_all_seeds():
    axes = Figure().subplots()
    plot_seeds(axes, [0, 1], [[1.0, 2.0], [3.0, 4.0]], label="masks", color="C0")
    assert [list(line.get_ydata()) for line in axes.lines] == [[1.0, 2.0], [3.0, 4.0]]
    assert axes.get_legend_handles_labels()[1] == ["masks"]


def test_seeds_share_the_next_colour():
    axes = Figure().subplots()
    plot_seeds(axes, [0, 1], [[1.0, 2.0], [3.0, 4.0]], label="masks")
    plot_seeds(axes, [0, 1], [[5.0, 6.0], [7.0, 8.0]], label="no masks")
    first, also_first, second, also_second = (to_hex(line.get_color()) for line in axes.lines)
    assert (first, second) == (to_hex("C0"), to_hex("C1"))
    assert (also_first, also_second) == (first, second)


def test_columns_by_seed():
    axes = Figure().subplots()
    rows = [
        {"arm": arm, "seed": seed, "step": step, "sparse": 100 * seed + step, "dense": -step}
        for arm in ("masks", "no masks")
        for seed in (3, 1)
        for step in (0, 5)
    ]
    plot_columns(axes, rows[:-1], {"sparse": "signal", "dense": "noise"}, arm="masks")
    assert [list(line.get_ydata()) for line in axes.lines] == [[300, 305], [100, 105], [0, -5], [0, -5]]
    assert all(list(line.get_xdata()) == [0, 5] for line in axes.lines)
    assert axes.get_legend_handles_labels()[1] == ["signal", "noise"]
    assert axes.get_xlabel() == "step"
