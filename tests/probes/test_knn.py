"""The k-nearest-neighbour classifier is a loop over sorted cosines, scikit-learn's, and lightly's."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from lightning_ssl_theory import row_blocks
from lightning_ssl_theory.probes import Neighbours, knn_votes, nearest_neighbours

NUM_CLASSES = 4


def samples(num_samples, num_features=5, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(NUM_CLASSES, (num_samples,), generator=generator)
    centres = torch.randn(NUM_CLASSES, num_features, generator=torch.Generator().manual_seed(9))
    return (centres[labels] + torch.randn(num_samples, num_features, generator=generator)).to(dtype), labels


def cosine(first, second):
    lengths = [math.sqrt(sum(entry * entry for entry in row)) for row in (first, second)]
    return (
        sum(a * b for a, b in zip(first, second, strict=True)) / math.prod(lengths) if all(lengths) else 0.0
    )


def votes_loop(features, fit_features, fit_targets, k, temperature):
    """Votes by sorting all cosines, equal ones by place; the nearest has weight 1."""
    rows, fitted = features.tolist(), fit_features.tolist()
    votes = np.zeros((len(rows), NUM_CLASSES))
    for row, own in zip(rows, votes, strict=True):
        cosines = [cosine(row, other) for other in fitted]
        nearest = sorted(range(len(fitted)), key=lambda place: (-round(cosines[place], 10), place))[:k]
        for place in nearest:
            gap = cosines[place] - cosines[nearest[0]]
            own[fit_targets[place]] += 1.0 if temperature is None else math.exp(gap / temperature)
    return votes


def votes(features, fit_features, fit_targets, k, temperature):
    near = nearest_neighbours(features, fit_features, k)
    return knn_votes(near, fit_targets, NUM_CLASSES, temperature=temperature)


def test_oracle_by_hand():
    fitted, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), [0, 1, 1]
    found = votes_loop(torch.tensor([[3.0, 0.0]]), fitted, labels, 2, 0.5)
    assert found.tolist() == [[1.0, pytest.approx(math.exp((math.sqrt(0.5) - 1) / 0.5)), 0.0, 0.0]]


@pytest.mark.parametrize("temperature", [None, 0.07, 1.0])
@pytest.mark.parametrize("k", [1, 4, 23])
def test_votes_are_those_of_a_loop(k, temperature):
    (features, _), (fitted, labels) = samples(11), samples(23, seed=1)
    found = votes(features, fitted, labels, k, temperature)
    assert found.numpy() == pytest.approx(votes_loop(features, fitted, labels, k, temperature), abs=1e-9)


def test_of_equal_cosines_the_first_counts():
    # five copies of three directions, in other lengths: the cosines are equal but for rounding
    directions, lengths = torch.randn(3, 7, dtype=torch.float64), torch.tensor([1.0, 3.0, 0.1, 7.0, 1e-3])
    fitted = (lengths[:, None, None] * directions).reshape(15, 7)
    features, labels = directions + 1e-3, torch.arange(15) % NUM_CLASSES
    for k in range(1, 7):
        near = nearest_neighbours(features, fitted, k)
        for place, indices in enumerate(near.indices.tolist()):
            assert indices[: min(k, 5)] == [place + 3 * copy for copy in range(min(k, 5))]
        found = knn_votes(near, labels, NUM_CLASSES, temperature=0.1)
        assert found.numpy() == pytest.approx(votes_loop(features, fitted, labels, k, 0.1), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 7, 40])
def test_classes_are_those_of_scikit_learn(k, dtype):
    (features, _), (fitted, labels) = samples(200, dtype=dtype), samples(300, seed=1, dtype=dtype)
    found = {}
    for temperature in (None, 0.07, 0.5):
        weights = "uniform" if temperature is None else lambda d, t=temperature: np.exp((1 - d) / t)
        theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights)
        expected = theirs.fit(fitted.double().numpy(), labels.numpy()).predict(features.double().numpy())
        found[temperature] = votes(features, fitted, labels, k, temperature).argmax(1).numpy()
        assert (found[temperature] == expected).all()
    assert k == 1 or (found[0.07] != found[None]).any()  # the temperature matters


def test_classes_are_those_of_lightly():
    knn = pytest.importorskip("lightly.utils.benchmarking.knn")
    (features, _), (fitted, labels) = samples(60), samples(90, seed=1)
    unit = [torch.nn.functional.normalize(rows, dim=1) for rows in (features, fitted)]
    expected = knn.knn_predict(unit[0], unit[1].mT, labels, NUM_CLASSES, knn_k=20, knn_t=0.1)
    found = votes(features, fitted, labels, 20, 0.1)
    assert torch.equal(found.argmax(1), expected[:, 0])


def test_blocks_change_nothing(monkeypatch):
    (features, _), (fitted, labels) = samples(17), samples(23, seed=1)
    whole = votes(features, fitted, labels, 6, 0.1)
    monkeypatch.setattr(row_blocks, "BLOCK_SIZE", 50)
    assert torch.equal(votes(features, fitted, labels, 6, 0.1), whole)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e150])
def test_lengths_do_not_matter(scale):
    (features, _), (fitted, _) = samples(7), samples(9, seed=1)
    for one, other in ((features * scale, fitted), (features, fitted * scale)):
        near, expected = nearest_neighbours(one, other, 5), nearest_neighbours(features, fitted, 5)
        assert torch.equal(near.indices, expected.indices)
        assert torch.equal(near.cosines, expected.cosines)


def test_edges():
    fitted, labels = torch.eye(3), torch.tensor([2, 0, 1])
    near = nearest_neighbours(torch.zeros(2, 3), fitted, 2)  # no direction: the first of all
    assert near.cosines.tolist() == [[0.0, 0.0]] * 2
    assert near.indices.tolist() == [[0, 1]] * 2
    assert knn_votes(near, labels, 3, temperature=1e-9).tolist() == [[1.0, 0.0, 1.0]] * 2
    none = nearest_neighbours(torch.zeros(0, 3), fitted, 2)
    assert knn_votes(none, labels, 3).shape == (0, 3)
    opposite = nearest_neighbours(-fitted[:1], fitted, 3)
    assert opposite.indices.tolist() == [[1, 2, 0]]
    assert opposite.cosines.tolist() == [[0.0, 0.0, -1.0]]
    # weights exp(cos / tau) would overflow, and exp((cos - 1) / tau) vanish
    assert knn_votes(opposite, labels, 3, temperature=1e-4).tolist() == [[1.0, 1.0, 0.0]]


def test_rejected_inputs():
    fitted, labels = torch.eye(3), torch.arange(3)
    near = nearest_neighbours(fitted, fitted, 2)
    for call, message in (
        (
            lambda: nearest_neighbours(fitted, fitted, 4),
            "Expected `k` of at most 3, got 4; it counts labelled",
        ),
        (lambda: nearest_neighbours(fitted, fitted, 0), "Expected `k` of at least 1, got 0"),
        (lambda: nearest_neighbours(torch.ones(2, 4), fitted, 1), r"Expected `features` of shape \(N, 3\)"),
        (lambda: nearest_neighbours(fitted, fitted / 0, 1), "Expected finite `fit_features`, got 9 of 9"),
        (lambda: nearest_neighbours(fitted / 0, fitted, 1), "Expected finite `features`, got 9 of 9"),
        (
            lambda: nearest_neighbours(torch.ones(1, 1), torch.ones(1, 1).expand(2**22 + 1, 1), 1),
            "Expected `fit_features` of at most 4194304 samples, got 4194305; leave some of them out.",
        ),
        (
            lambda: knn_votes(near, labels, 3, k=3),
            "Expected `k` of at most 2, got 3; ask for more neighbours",
        ),
        (lambda: knn_votes(near, labels, 2), "Expected `fit_targets` "),
        (
            lambda: knn_votes(near, labels[:2], 3),
            "Expected `fit_targets` of all samples among .*, got 2 and a",
        ),
        (lambda: knn_votes(near, labels, 3, temperature=0.0), "Expected `temperature` > 0, got 0.0"),
        (lambda: knn_votes(tuple(near), labels, 3), "Expected `neighbours` to be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_fewer_neighbours_are_the_nearest_of_more():
    (features, _), (fitted, labels) = samples(9), samples(13, seed=1)
    near = nearest_neighbours(features, fitted, 10)
    few = Neighbours(*(part[:, :3] for part in near))
    assert torch.equal(knn_votes(near, labels, NUM_CLASSES, k=3), knn_votes(few, labels, NUM_CLASSES))
