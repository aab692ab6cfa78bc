import math

import numpy as np
import pytest
import torch
from helpers.ddp import run_ranks
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.testing import assert_close

from lightning_ssl_theory.distributed import all_sum
from lightning_ssl_theory.probes import LinearClassifier, logistic_classifier


def make_data(num_samples: int = 90, width: int = 4, num_classes: int = 3) -> tuple[Tensor, Tensor]:
    targets = torch.arange(num_samples) % num_classes
    features = torch.randn(num_samples, width, dtype=torch.float64)
    features += 1.2 * torch.randn(num_classes, width, dtype=torch.float64)[targets]
    return features * torch.logspace(-1, 1, width) + 5, targets


def objective_loop(
    rows: list[list[float]], labels: list[int], weight: list[list[float]], bias: list[float], l2: float
) -> float:
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        scores = [
            sum(w * x for w, x in zip(ws, row, strict=True)) + b for ws, b in zip(weight, bias, strict=True)
        ]
        highest = max(scores)
        total += highest + math.log(sum(math.exp(s - highest) for s in scores)) - scores[label]
    return total / len(rows) + 0.5 * l2 * sum(w * w for ws in weight for w in ws)


def objective_of(classifier: LinearClassifier, features: Tensor, targets: Tensor, l2: float) -> float:
    """Of the classifier as it acts on standardised features, where the penalty is."""
    std, mean = features.std(0, correction=0), features.mean(0)
    weight, bias = classifier.weight * std, classifier.bias + classifier.weight @ mean
    return objective_loop(
        ((features - mean) / std).tolist(), targets.tolist(), weight.tolist(), bias.tolist(), l2
    )


def test_oracle_by_hand() -> None:
    assert objective_loop([[1.0]], [0], [[0.0], [0.0]], [0.0, 0.0], 1.0) == pytest.approx(math.log(2))
    expected = math.log(1 + math.exp(-2.0)) + 0.5
    assert objective_loop([[1.0]], [0], [[1.0], [-1.0]], [0.0, 0.0], 0.5) == pytest.approx(expected)


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_objective_is_that_of_sklearns_optimum(l2: float, num_classes: int) -> None:
    features, targets = make_data(num_classes=num_classes)
    classifier = logistic_classifier(features, targets, num_classes, l2=l2)
    found = objective_of(classifier, features, targets, l2)

    standardised = ((features - features.mean(0)) / features.std(0, correction=0)).numpy()
    if num_classes == 2:
        # scikit-learn has one vector w for two classes: w/2 and -w/2 of ours, half the penalty.
        peer = LogisticRegression(C=2 / (len(targets) * l2), tol=1e-10, max_iter=10_000)
        peer.fit(standardised, targets.numpy())
        weight = np.concatenate([-peer.coef_, peer.coef_]) / 2
        bias = np.concatenate([-peer.intercept_, peer.intercept_]) / 2
    else:
        peer = LogisticRegression(C=1 / (len(targets) * l2), tol=1e-10, max_iter=10_000)
        peer.fit(standardised, targets.numpy())
        weight, bias = peer.coef_, peer.intercept_
    optimum = objective_loop(standardised.tolist(), targets.tolist(), weight.tolist(), bias.tolist(), l2)
    assert abs(found - optimum) < 1e-6
    rows = torch.from_numpy(standardised @ weight.T + bias).softmax(1)
    assert_close(classifier.scores(features).softmax(1), rows, rtol=0, atol=1e-4)


def test_no_step_from_the_optimum_lowers_the_objective() -> None:
    features, targets = make_data()
    classifier = logistic_classifier(features, targets, 3, l2=1e-2)
    best = objective_of(classifier, features, targets, 1e-2)
    for _ in range(10):
        moved = LinearClassifier(
            classifier.weight + 1e-2 * torch.randn_like(classifier.weight) / features.std(0),
            classifier.bias + 1e-2 * torch.randn_like(classifier.bias),
        )
        assert objective_of(moved, features, targets, 1e-2) > best


def test_units_and_order_do_not_matter() -> None:
    features, targets = make_data()
    scores = logistic_classifier(features, targets, 3).scores(features)
    order = torch.randperm(len(targets))
    moved = 1e3 * features - 1e5
    again = logistic_classifier(moved[order], targets[order], 3).scores(moved)
    assert_close(again.softmax(1), scores.softmax(1), rtol=0, atol=1e-3)


def test_constant_features_get_no_weight_and_absent_classes_no_prediction() -> None:
    features, targets = make_data(num_classes=2)
    features[:, 1] = 0.1
    with_absent = logistic_classifier(features.float(), 2 * targets, 4)
    without = logistic_classifier(features.float(), targets, 2)
    assert with_absent.weight[:, 1].tolist() == [0.0] * 4
    assert_close(with_absent.scores(features)[:, [0, 2]], without.scores(features))
    assert (with_absent.scores(features)[:, [1, 3]] == -math.inf).all()


def _fit(rank: int, world_size: int, features: Tensor, targets: Tensor) -> list[LinearClassifier]:
    first, last = [(0, 31), (31, 31), (31, 90)][rank]  # one rank has no rows
    mine = features[first:last], targets[first:last]
    classifiers = [logistic_classifier(*mine, 3, all_sum=all_sum)]
    return classifiers + ([logistic_classifier(*mine, 3)] if last > first else [])


@pytest.mark.ddp
def test_uneven_ranks_equal_one_process() -> None:
    features, targets = make_data()
    expected = logistic_classifier(features, targets, 3)
    results = run_ranks(_fit, 3, features, targets)
    for together, *alone in results:
        assert_close(together, results[0][0], rtol=0, atol=0)  # the same bits on every rank
        found = objective_of(together, features, targets, 1e-3)
        assert found == pytest.approx(objective_of(expected, features, targets, 1e-3), abs=1e-8)
        assert_close(together.weight, expected.weight, rtol=1e-3, atol=1e-3)
        assert not any(torch.allclose(one.weight, expected.weight, rtol=1e-2, atol=1e-2) for one in alone)


def test_warns_when_it_stops_early() -> None:
    features, targets = make_data()
    with pytest.warns(
        RuntimeWarning, match=r"to reach a gradient of 1e-06, got .* after 1 iterations; raise"
    ):
        logistic_classifier(features, targets, 3, max_iterations=1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"features": torch.zeros(3)}, ValueError, r"Expected `features` of shape \(N, D\), got \(3,\)"),
        (
            {"features": torch.full((90, 4), math.nan)},
            ValueError,
            "Expected finite `features`, got 360 of 360",
        ),
        ({"targets": torch.zeros(3).long()}, ValueError, r"Expected `targets` of shape \(90,\), got \(3,\)"),
        ({"targets": torch.full((90,), -1)}, ValueError, r"Expected `targets` in 0\.\.2, got -1 to -1"),
        ({"targets": torch.ones(90).long()}, ValueError, "samples of at least two classes, got only class 1"),
        ({"l2": 0.0}, ValueError, r"Expected `l2` > 0, got 0\.0"),
    ],
)
def test_rejects_bad_input(change: dict, error: type[Exception], message: str) -> None:
    features, targets = make_data()
    with pytest.raises(error, match=message):
        logistic_classifier(**({"features": features, "targets": targets, "num_classes": 3} | change))
