import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from lightning_ssl_theory.metrics import augmented_distances, nearest_views
from lightning_ssl_theory.metrics.augmented_distances import NEAR, distance_levels


def oracle(views: torch.Tensor) -> list[list[float]]:
    rows = [[view.flatten().tolist() for view in sample] for sample in views.double()]
    return [
        [
            0.0 if i == j else min(math.dist(a, b) for a, b in itertools.product(rows[i], rows[j]))
            for j in range(len(rows))
        ]
        for i in range(len(rows))
    ]


def test_oracle_by_hand() -> None:
    views = torch.tensor([[[0.0], [4.0]], [[5.0], [9.0]], [[4.0], [-3.0]]])
    assert oracle(views) == [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 1000),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from([(), (4,), (2, 3)]),
    st.sampled_from([1, 10**4, 10**8]),
)
def test_equals_single_distances_for_any_budget(seed, count, num_views, shape, budget) -> None:
    views = torch.randn(
        count, num_views, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    found = augmented_distances(views, memory_budget=budget)
    torch.testing.assert_close(found, torch.tensor(oracle(views), dtype=torch.float64))
    assert torch.equal(found, found.mT)


def test_pairs_of_different_classes_are_infinite() -> None:
    views, labels = torch.randn(6, 2, 3, dtype=torch.float64), torch.tensor([0, 2, 0, 2, 2, 0])
    found, same = augmented_distances(views, labels), labels == labels[:, None]
    assert torch.equal(found.isinf(), ~same)
    torch.testing.assert_close(found[same], augmented_distances(views)[same])


def test_near_samples_far_from_zero_keep_their_digits() -> None:
    # in float32, products of 1000 + x and 1000 + y say nothing of x - y
    samples = torch.randn(5, 1, 64)
    views = 1000 + torch.cat([samples, samples + 1e-2 * torch.randn(5, 1, 64), samples], dim=0)
    found = augmented_distances(views)
    expected = torch.tensor(oracle(views), dtype=torch.float32)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
    assert (found[torch.arange(5), torch.arange(10, 15)] == 0).all()
    squares = views.flatten(1).square().sum(1)
    naive = squares + squares[:, None] - 2 * views.flatten(1) @ views.flatten(1).mT
    assert (naive.clamp(min=0).sqrt() - expected).abs().max() > 0.1  # what would be read without care
    assert NEAR > 0


def test_integers_are_taken_as_numbers() -> None:
    assert augmented_distances(torch.tensor([[[0], [4]], [[5], [9]]]))[0, 1] == 1.0


@pytest.mark.parametrize(
    ("views", "labels", "options", "message"),
    [
        (torch.zeros(3), None, {}, "Expected `views` of shape"),
        (torch.zeros(0, 2, 3), None, {}, "Expected `views` of shape .*; pass samples"),
        (torch.zeros(3, 0, 3), None, {}, "Expected `views` of shape .*; pass samples"),
        (torch.full((2, 1, 1), math.nan), None, {}, "Expected finite `views`"),
        (torch.zeros(2, 1, 1), torch.tensor([0]), {}, "Expected `labels` of shape"),
        (torch.zeros(2, 1, 1), torch.tensor([0, -1]), {}, "Expected `labels` in 0"),
        (
            torch.zeros(2, 1, 1),
            None,
            {"memory_budget": 0},
            "Expected `memory_budget` of at least 1, got 0; pass bytes",
        ),
    ],
)
def test_rejects_bad_input(views, labels, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        augmented_distances(views, labels, **options)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 3), st.sampled_from([1, 10**8]))
def test_nearest_views_attain_the_distances(seed, count, num_views, budget) -> None:
    generator = torch.Generator().manual_seed(seed)
    views = torch.randn(count, num_views, 4, generator=generator, dtype=torch.float64)
    views[count // 2 :] = views[: count - count // 2].clone()  # some coincide
    labels = torch.arange(count) % 2 if seed % 2 else None
    found = nearest_views(views, labels, memory_budget=budget)
    assert torch.equal(found.distances, augmented_distances(views, labels, memory_budget=budget))
    for i, j in itertools.permutations(range(count), 2):
        if found.distances[i, j].isfinite():
            gap = (views[i, found.view[i, j]] - views[j, found.view[j, i]]).norm()
            torch.testing.assert_close(gap, found.distances[i, j])


def test_levels_of_distances_by_hand() -> None:
    distances = torch.tensor([[0.0, 3.0, torch.inf], [3.0, 0.0, 1.0], [torch.inf, 1.0, 0.0]])
    assert distance_levels(distances).tolist() == [0.0, 1.0, 3.0]
    assert distance_levels(torch.zeros(1, 1)).tolist() == [0.0]
