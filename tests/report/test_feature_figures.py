"""Figures of features show the numbers they are given."""

import numpy as np
import torch
from matplotlib.figure import Figure

from lightning_ssl_theory.report import plot_embedding, plot_filters, plot_firing_rates


def test_each_filter_has_its_own_scale_and_place():
    axes, weight = Figure().subplots(), torch.zeros(3, 3, 2, 2)
    weight[0, 0], weight[2, 1, 1, 0] = 4.0, -0.1  # a red one, one of zeros, one with a pixel without green
    plot_filters(axes, weight, num_columns=2)
    grid = np.asarray(axes.images[0].get_array())
    assert grid.shape == (5, 5, 3)
    assert (grid[:2, :2] == [1.0, 0.5, 0.5]).all()
    assert (grid[:2, 3:] == 0.5).all()
    assert (grid[4, 0] == [0.5, 0.0, 0.5]).all()
    assert (grid[2] == 1).all()
    assert (grid[3:, 2:] == 1).all()


def test_samples_have_the_colours_of_their_classes():
    axes = Figure().subplots()
    plot_embedding(axes, torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([1, 0]))
    assert axes.collections[0].get_offsets().tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert axes.collections[0].get_array().tolist() == [1, 0]


def test_rates_are_counted():
    axes = Figure().subplots()
    plot_firing_rates(axes, torch.tensor([0.0, 0.02, 0.98]), before=torch.tensor([0.5]))
    assert [bar.get_height() for bar in axes.patches[:20]] == [2.0, *[0.0] * 18, 1.0]
    assert axes.get_legend_handles_labels()[1] == ["untrained"]
