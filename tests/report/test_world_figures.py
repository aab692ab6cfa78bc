"""Figures of the worlds whose truth is known show the numbers they are given."""

import pytest
import torch
from matplotlib.figure import Figure

from lightning_ssl_theory.report import plot_atoms, plot_label_curves, plot_lucky_node, plot_stages


def test_neurons_stand_by_their_leading_atom():
    axes = list(Figure().subplots(1, 2))
    dictionary = torch.eye(4)[:, :3]
    weight = torch.tensor([[0.0, 0.0, 2.0, 0.0], [3.0, 0.0, 0.0, 4.0], [0.0, -1.0, 0.0, 0.0]])
    plot_atoms(axes, {"start": weight, "end": weight}, dictionary)
    expected = torch.tensor([[0.6, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert torch.allclose(torch.as_tensor(axes[1].images[0].get_array()), expected)
    assert [one.get_title() for one in axes] == ["start", "end"]


def test_curves_are_means_over_seeds():
    axes = Figure().subplots()
    rows = [
        {"features": name, "seed": seed, "labels": count, "r2": seed + count / 100 + 10 * (name == "masks")}
        for name in ("masks", "raw input")
        for seed in (0, 1)
        for count in (100, 10)
    ]
    plot_label_curves(axes, rows, "r2", caps={"Bayes": 0.9})
    found = [container.lines[0].get_xydata().tolist() for container in axes.containers]
    assert found[0] == [[10, 10.6], [100, 11.5]]
    assert found[1] == [[10, pytest.approx(0.6)], [100, 1.5]]
    assert [text.get_text() for text in axes.texts] == ["Bayes"]


def test_lucky_node_is_told_from_the_others():
    axes = Figure().subplots()
    plot_lucky_node(axes, [0, 5], torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.9, 0.6]]), 1)
    assert axes.get_legend_handles_labels()[1] == ["lucky node"]
    (lucky,) = axes.get_legend_handles_labels()[0]
    assert torch.allclose(torch.as_tensor(lucky.get_ydata()), torch.tensor([0.2, 0.9]))
    plot_lucky_node(Figure().subplots(), [0], torch.ones(1, 3), -1)


def test_stages_of_a_sparse_world():
    axes = list(Figure().subplots(2, 2).flat)
    looks = [
        {
            "arm": arm,
            "seed": seed,
            "step": step,
            "sparse_norm": 1.0 + step + seed,
            "dense_norm": 2.0 * (1 + step),
            "ratio": 2.0 + number,
            "active_singleton_share": 0.1,
            "covered_share": 0.2,
            "leading_atom_share": 0.3,
            "firing_rate": 0.4,
        }
        for number, arm in enumerate(("masks", "no masks", "small", "unseen"))
        for seed in (0, 1)
        for step in (0, 5)
    ]
    predicted = {"masks": torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), "no masks": torch.ones(1, 2)}
    plot_stages(axes, looks, predicted, compared="small", stage=5, floor=0.7)
    assert [one.get_title() for one in axes[:2]] == ["masks", "no masks"]
    lines = [list(line.get_ydata()) for line in axes[0].lines]
    assert lines[:6] == [[1, 6], [2, 7], [2, 12], [2, 12], [1, 3, 5], [2, 4, 6]]
    assert axes[0].get_legend_handles_labels()[1] == ["sparse", "dense", "predicted, linear stage"]
    assert [line.get_ydata()[0] for line in axes[2].lines] == [2, 2, 3, 3, 4, 4, 0.7]
    assert [line.get_ydata()[0] for line in axes[3].lines[::2]] == [0.1, 0.2, 0.3, 0.4, 0]
    for number, has_stage in enumerate((True, False, False, True)):  # where biases begin to grow
        assert (list(axes[number].lines[-1].get_xdata()) == [5, 5]) == has_stage
