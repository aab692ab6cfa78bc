import itertools

import networkx as nx
import numpy as np
import pytest
import torch

from lightning_ssl_theory.metrics import augmentation_concentration, augmented_distances
from lightning_ssl_theory.metrics.cliques import clique_size, greedy_clique, num_colours


def largest_clique(adjacency: np.ndarray) -> int:
    nodes = range(len(adjacency))
    return max(
        size
        for size in range(1, len(adjacency) + 1)
        for part in itertools.combinations(nodes, size)
        if all(adjacency[a, b] for a, b in itertools.combinations(part, 2))
    )


def random_graph(seed: int, count: int, density: float) -> np.ndarray:
    draws = np.triu(np.random.default_rng(seed).random((count, count)) < density, 1)
    return draws | draws.T


GRAPHS = {
    "no-edge": (nx.empty_graph(5), 1),
    "complete": (nx.complete_graph(6), 6),
    "triangle-and-tail": (nx.Graph([(0, 1), (1, 2), (2, 0), (2, 3)]), 3),
    "pentagon": (nx.cycle_graph(5), 2),  # needs three colours
    "petersen": (nx.petersen_graph(), 2),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_by_hand(name) -> None:
    graph, size = GRAPHS[name]
    adjacency = nx.to_numpy_array(graph, dtype=bool)
    assert largest_clique(adjacency) == size
    assert clique_size(adjacency) == (size, size)


def test_bounds_hold_on_random_graphs() -> None:
    apart = 0
    for seed in range(300):
        count, density = 3 + seed % 7, (0.2, 0.5, 0.8)[seed % 3]
        adjacency = random_graph(seed, count, density)
        exact = largest_clique(adjacency)
        bounds = clique_size(adjacency, exact_nodes=0)
        assert bounds.lower <= exact <= bounds.upper
        assert clique_size(adjacency) == (exact, exact)
        apart += bounds.lower < bounds.upper
    assert apart  # else nothing was searched


def test_a_colouring_gives_neighbours_different_colours_and_a_clique_is_one() -> None:
    # on larger graphs, against networkx
    for seed in range(5):
        adjacency = random_graph(seed, 60, 0.5)
        graph = nx.from_numpy_array(adjacency)
        exact = len(nx.max_weight_clique(graph, weight=None)[0])
        assert greedy_clique(adjacency, 0) <= exact <= num_colours(adjacency)
        assert clique_size(adjacency, seconds=60) == (exact, exact)


def test_a_search_that_takes_too_long_leaves_bounds() -> None:
    adjacency = nx.to_numpy_array(nx.mycielski_graph(6), dtype=bool)  # no triangle, six colours
    assert clique_size(adjacency, seconds=1e-9) == (2, 6)
    assert clique_size(adjacency, seconds=60) == (2, 2)
    assert clique_size(np.zeros((0, 0), dtype=bool)) == (0, 0)


def test_a_shared_view_concentrates_all() -> None:
    # every sample of a class has one view in common with the others
    views = torch.randn(12, 3, 4)
    labels = torch.arange(12) % 2
    views[:, 1] = torch.tensor([[1.0] * 4, [-1.0] * 4])[labels]
    found = augmentation_concentration(augmented_distances(views, labels), labels, torch.tensor([0.0]))
    assert found.sigma_lower.tolist() == found.sigma_upper.tolist() == [1.0]
    assert found.is_exact.all()


def test_by_hand_and_in_any_order() -> None:
    views = torch.tensor([0.0, 1.0, 2.0, 10.0, 0.0, 5.0])[:, None, None]
    labels = torch.tensor([0, 0, 0, 0, 2, 2])
    found = augmentation_concentration(
        augmented_distances(views, labels), labels, torch.tensor([2.0, 0.0, 5.0])
    )
    assert found.class_lower[:, [0, 2]].tolist() == [[0.75, 0.5], [0.25, 0.5], [0.75, 1.0]]
    assert found.class_lower[:, 1].isnan().all()  # a class without samples
    assert found.sigma_lower.tolist() == found.sigma_upper.tolist() == [0.5, 0.25, 0.75]


def test_grows_with_delta() -> None:
    views, labels = torch.randn(150, 2, 4), torch.zeros(150, dtype=torch.int64)
    found = augmentation_concentration(augmented_distances(views), labels, torch.linspace(0, 6, 13))
    for bound in (found.sigma_lower, found.sigma_upper):
        assert (bound.diff() >= 0).all()
    assert (found.sigma_lower <= found.sigma_upper).all()
    assert not found.is_exact.all()  # 150 samples are not searched


def clusters(count: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Samples of one class on a line: a part at one point, the others far apart."""
    positions = 10 + torch.arange(count, dtype=torch.float32)
    positions[torch.rand(count, generator=generator) < share] = 0.0
    return positions[:, None, None]


def test_standard_error_is_that_over_samples() -> None:
    # sigma at delta = 0 is a share of independent samples: its standard error is sqrt(p (1 - p) / N)
    generator, count, share = torch.Generator().manual_seed(0), 60, 0.6
    labels, deltas = torch.zeros(count, dtype=torch.int64), torch.tensor([0.0])
    errors, sigmas = [], []
    for seed in range(30):
        distances = augmented_distances(clusters(count, share, generator))
        found = augmentation_concentration(distances, labels, deltas, num_subsamples=10, seed=seed)
        errors.append(found.standard_error.item())
        sigmas.append(found.sigma_lower.item())
    expected = (share * (1 - share) / count) ** 0.5
    assert torch.tensor(sigmas).std().item() == pytest.approx(expected, rel=0.3)
    assert torch.tensor(errors).mean().item() == pytest.approx(expected, rel=0.15)


def test_standard_error_follows_from_the_seed_and_is_asked_for() -> None:
    views, labels = torch.randn(150, 2, 3), torch.arange(150) % 3
    arguments = (augmented_distances(views, labels), labels, torch.tensor([0.5, 1.0, 20.0]))
    assert augmentation_concentration(*arguments).standard_error.isnan().all()
    one, same, other = (
        augmentation_concentration(*arguments, num_subsamples=5, seed=seed).standard_error
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one[2] == 0  # all of any half is near
    with pytest.raises(
        ValueError, match="Expected `num_subsamples` of at least 2, got 1; None leaves it out"
    ):
        augmentation_concentration(*arguments, num_subsamples=1)


@pytest.mark.parametrize(
    ("distances", "labels", "deltas", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2).long(), torch.zeros(1), "Expected `distances` of shape"),
        (
            torch.tensor([[0.0, 1.0], [2.0, 0.0]]),
            torch.zeros(2).long(),
            torch.zeros(1),
            "Expected symmetric `distances`",
        ),
        (torch.zeros(2, 2), torch.zeros(3).long(), torch.zeros(1), "Expected `labels` of shape"),
        (torch.zeros(2, 2), torch.tensor([0, -1]), torch.zeros(1), "Expected `labels` in 0"),
        (
            torch.zeros(2, 2),
            torch.zeros(2).long(),
            torch.tensor([-1.0]),
            "Expected `deltas` of at least 0, got -1",
        ),
        (torch.zeros(2, 2), torch.zeros(2).long(), torch.tensor([torch.nan]), "Expected finite `deltas`"),
        (torch.zeros(2, 2), torch.zeros(2).long(), torch.zeros(0), "Expected `deltas` of shape"),
    ],
)
def test_rejects_bad_input(distances, labels, deltas, message) -> None:
    with pytest.raises(ValueError, match=message):
        augmentation_concentration(distances, labels, deltas)
