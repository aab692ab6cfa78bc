import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from helpers.ddp import run_ranks
from hypothesis import given, settings
from sklearn.linear_model import Ridge, RidgeClassifier
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from lightning_ssl_theory.distributed import all_gather_rows, all_sum
from lightning_ssl_theory.probes import (
    LinearClassifier,
    ridge_classifier,
    ridge_classifier_of_rows,
    ridge_statistics,
)


def make_data(num_samples: int = 60, width: int = 5, num_classes: int = 3) -> tuple[Tensor, Tensor]:
    targets = torch.arange(num_samples) % num_classes
    features = torch.randn(num_samples, width, dtype=torch.float64) * torch.logspace(-2, 2, width) + 7
    features += 2 * torch.randn(num_classes, width, dtype=torch.float64)[targets]
    return features, targets


def ridge_by_least_squares(
    rows: np.ndarray, labels: np.ndarray, num_classes: int, lamb: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, D) and biases for standardised rows: the penalty as further equations sqrt(N lamb) W = 0."""
    n, width = rows.shape
    standardised = (rows - rows.mean(0)) / rows.std(0)
    equations = np.block(
        [[standardised, np.ones((n, 1))], [math.sqrt(n * lamb) * np.eye(width), np.zeros((width, 1))]]
    )
    wanted = np.vstack([np.eye(num_classes)[labels], np.zeros((width, num_classes))])
    solution = np.linalg.lstsq(equations, wanted, rcond=None)[0]
    return solution[:-1].T, solution[-1]


def test_oracle_by_hand() -> None:
    # x = -1, 1 and y = 1 - x over 2: minimise (w - 1/2)^2 + w^2 for the second class.
    weight, bias = ridge_by_least_squares(np.array([[-1.0], [1.0]]), np.array([0, 1]), 2, 1.0)
    assert weight[:, 0] == pytest.approx([-0.25, 0.25])
    assert bias == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("lamb", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_matches_least_squares_and_sklearn(lamb: float, num_classes: int) -> None:
    features, targets = make_data(num_classes=num_classes)
    statistics = ridge_statistics(features[:11], targets[:11], num_classes)
    statistics += ridge_statistics(features[11:], targets[11:], num_classes)
    classifier = ridge_classifier(statistics, lamb)
    rows, labels = features.numpy(), targets.numpy()
    standardised = (rows - rows.mean(0)) / rows.std(0)

    weight, bias = ridge_by_least_squares(rows, labels, num_classes, lamb)
    expected = torch.from_numpy(standardised @ weight.T + bias)
    assert_close(classifier.scores(features), expected, rtol=1e-8, atol=1e-8)
    assert_close(classifier.weight, torch.from_numpy(weight / rows.std(0)), rtol=1e-7, atol=1e-8)

    peer = Ridge(alpha=len(rows) * lamb).fit(standardised, np.eye(num_classes)[labels])
    assert_close(
        classifier.scores(features), torch.from_numpy(peer.predict(standardised)), rtol=1e-8, atol=1e-8
    )
    guesses = RidgeClassifier(alpha=len(rows) * lamb).fit(standardised, labels).predict(standardised)
    assert classifier.scores(features).argmax(1).tolist() == guesses.tolist()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-100, 100), scale=st.floats(0.01, 100))
def test_units_and_order_do_not_matter(seed: int, shift: float, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    targets = torch.arange(30) % 3
    order = torch.randperm(30, generator=generator)
    scores = ridge_classifier(ridge_statistics(features, targets, 3), 0.1).scores(features)
    moved = scale * features + shift
    again = ridge_classifier(ridge_statistics(moved[order], targets[order], 3), 0.1).scores(moved)
    # Cancellation in the variance, N eps (shift / scale)^2 <= 1e-6 for these ranges.
    assert_close(again, scores, rtol=0, atol=1e-5)
    assert_close(scores.sum(1), torch.ones(30, dtype=torch.float64))  # so do the one-hot rows


def test_constant_features_get_no_weight() -> None:
    features, targets = make_data()
    features[:, 2] = 0.1
    classifier = ridge_classifier(ridge_statistics(features.float(), targets, 3))
    assert classifier.weight[:, 2].tolist() == [0.0, 0.0, 0.0]
    assert classifier.scores(features).isfinite().all()


def test_collapsed_features_predict_the_largest_class() -> None:
    targets = torch.tensor([0, 1, 1, 2])
    classifier = ridge_classifier(ridge_statistics(torch.full((4, 3), 0.3), targets, 3))
    assert_close(classifier.scores(torch.full((1, 3), 0.3))[0], torch.tensor([0.25, 0.5, 0.25]).double())


def test_absent_class_is_never_predicted() -> None:
    features, targets = make_data(num_classes=2)
    with_absent = ridge_classifier(ridge_statistics(features, 2 * targets, 4))
    without = ridge_classifier(ridge_statistics(features, targets, 2))
    assert_close(with_absent.scores(features)[:, [0, 2]], without.scores(features))
    assert (with_absent.scores(features)[:, [1, 3]] == -math.inf).all()


def test_half_precision_features_are_taken_exactly() -> None:
    features, targets = make_data()
    half = features.bfloat16()
    assert_close(
        ridge_classifier(ridge_statistics(half, targets, 3)),
        ridge_classifier(ridge_statistics(half.double(), targets, 3)),
        rtol=0,
        atol=0,
    )


def _fit(rank: int, world_size: int, features: Tensor, targets: Tensor) -> tuple[LinearClassifier, ...]:
    first, last = [(0, 17), (17, 60)][rank]
    statistics = ridge_statistics(features[first:last], targets[first:last], 3)
    return ridge_classifier(statistics.over_ranks(all_sum)), ridge_classifier(statistics)


@pytest.mark.ddp
def test_two_ranks_equal_one_process() -> None:
    features, targets = make_data()
    expected = ridge_classifier(ridge_statistics(features, targets, 3))
    for together, alone in run_ranks(_fit, 2, features, targets):
        assert_close(together, expected, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(alone.weight, expected.weight)


@pytest.mark.parametrize(("num_samples", "num_classes"), [(9, 3), (25, 2), (60, 4)])
def test_rows_give_the_classifier_of_the_sums(num_samples: int, num_classes: int) -> None:
    features, targets = make_data(num_samples, 30, num_classes)
    features[:, 4] = 0.1
    for absent in (1, 2):  # classes 0, 2, … where every second one has no samples
        arguments = features.float(), absent * targets, absent * num_classes
        expected = ridge_classifier(ridge_statistics(*arguments), 0.1)
        found = ridge_classifier_of_rows(*arguments, 0.1)
        assert_close(found, expected, rtol=1e-7, atol=1e-10)
        assert not found.weight[:, 4].any()


def test_rows_cost_what_the_smaller_side_costs() -> None:
    features, targets = make_data(20, 2000)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        ridge_classifier_of_rows(features, targets, 3)
    assert max(event.cpu_memory_usage for event in measured.events()) < 2000**2


def _fit_rows(
    rank: int, world_size: int, features: Tensor, targets: Tensor, cuts: list[int]
) -> tuple[LinearClassifier, LinearClassifier | None]:
    mine = slice(cuts[rank], cuts[rank + 1])
    arguments = features[mine], targets[mine], 3
    together = ridge_classifier_of_rows(*arguments, all_sum=all_sum, all_gather_rows=all_gather_rows)
    return together, ridge_classifier_of_rows(*arguments) if len(arguments[0]) else None


@pytest.mark.ddp
@pytest.mark.parametrize(
    ("num_samples", "cuts"),
    [
        pytest.param(20, [0, 7, 20], id="fewer than features"),
        pytest.param(40, [0, 11, 40], id="as many together only"),
        pytest.param(20, [0, 20, 20], id="none on a rank"),
    ],
)
def test_rows_of_two_ranks_equal_one_process(num_samples: int, cuts: list[int]) -> None:
    features, targets = make_data(num_samples, 30)
    expected = ridge_classifier_of_rows(features, targets, 3)
    for (together, alone), first, last in zip(
        run_ranks(_fit_rows, 2, features, targets, cuts), cuts[:-1], cuts[1:], strict=True
    ):
        assert_close(together, expected, rtol=1e-7, atol=1e-10)
        if 0 < last - first < num_samples:
            assert alone is not None
            assert not torch.allclose(alone.weight, expected.weight)


def test_an_empty_batch_adds_nothing() -> None:
    features, targets = make_data()
    statistics = ridge_statistics(features, targets, 3)
    total = statistics + ridge_statistics(features[:0], targets[:0], 3)
    assert_close(ridge_classifier(total), ridge_classifier(statistics), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("features", "targets", "error", "message"),
    [
        (
            torch.zeros(3),
            torch.zeros(3).long(),
            ValueError,
            r"Expected `features` of shape \(N, D\), got \(3,\)",
        ),
        (
            torch.zeros(3, 2),
            torch.zeros(2).long(),
            ValueError,
            r"Expected `targets` of shape \(3,\), got \(2,\)",
        ),
        (
            torch.zeros(3, 2),
            None,
            TypeError,
            "Expected `targets` to be a tensor of class indices, got NoneType",
        ),
        (torch.zeros(1, 2), torch.tensor([4]), ValueError, r"Expected `targets` in 0\.\.2, got 4 to 4; drop"),
        (
            torch.full((1, 2), math.nan),
            torch.tensor([0]),
            ValueError,
            "Expected finite `features`, got 2 of 2",
        ),
    ],
)
def test_rejects_bad_batches(features: Tensor, targets: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ridge_statistics(features, targets, 3)


def test_rejects_bad_fits() -> None:
    features, targets = make_data()
    with pytest.raises(ValueError, match=r"Expected `lamb` > 0, got 0\.0"):
        ridge_classifier(ridge_statistics(features, targets, 3), 0.0)
    with pytest.raises(ValueError, match="samples of at least two classes, got only class 0"):
        ridge_classifier(ridge_statistics(features[:1], targets[:1], 3))
    with pytest.raises(ValueError, match="samples of at least two classes, got no samples"):
        ridge_classifier(ridge_statistics(features[:0], targets[:0], 3))
    with pytest.raises(ValueError, match=r"Expected `features` of shape \(N, 5\), got \(2, 4\)"):
        ridge_classifier(ridge_statistics(features, targets, 3)).scores(torch.zeros(2, 4))
