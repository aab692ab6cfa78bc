"""Lines of seeds and of their means."""

import pytest
from matplotlib.figure import Figure

from lightning_ssl_theory.report import plot_means, plot_seeds, seed_mean


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
