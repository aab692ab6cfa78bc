"""Ridge regression onto numbers: normal equations, honest leave-one-out, and the score."""

import pytest
import torch
from sklearn.linear_model import RidgeCV
from torch.testing import assert_close

from lightning_ssl_theory.probes import LinearRegressor, r2_score, ridge_regression


def problem(num_rows=30, num_features=5, num_targets=2):
    features = (
        torch.randn(num_rows, num_features, dtype=torch.float64) * torch.arange(1.0, num_features + 1) + 3
    )
    mixing = torch.randn(num_features, num_targets, dtype=torch.float64)
    return features, features @ mixing + 2 + torch.randn(num_rows, num_targets, dtype=torch.float64)


def scaled(features):
    centred = features - features.mean(0)
    return centred / centred.square().mean().sqrt()


@pytest.mark.parametrize(("num_rows", "num_features"), [(30, 5), (6, 20)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_normal_equations(num_rows, num_features, penalty):
    features, targets = problem(num_rows, num_features)
    found = ridge_regression(features, targets, penalties=[penalty])
    standard = scaled(features)
    gram = standard.mT @ standard / num_rows + penalty * torch.eye(num_features, dtype=torch.float64)
    weight = torch.linalg.solve(gram, standard.mT @ (targets - targets.mean(0)) / num_rows)
    assert_close(found.predictions(features), standard @ weight + targets.mean(0))
    assert found.penalty == penalty


def left_out_error(standard, targets, penalty):
    errors = []
    for n in range(len(standard)):
        others = [m for m in range(len(standard)) if m != n]
        x, y = standard[others], targets[others]
        centre, level = x.mean(0), y.mean(0)
        # the penalty of the whole fit, N lambda on the sum of squares
        gram = (x - centre).mT @ (x - centre) + len(standard) * penalty * torch.eye(x.shape[1], dtype=x.dtype)
        weight = torch.linalg.solve(gram, (x - centre).mT @ (y - level))
        errors.append(((standard[n] - centre) @ weight + level - targets[n]).square().mean())
    return torch.stack(errors).mean()


def test_leave_one_out_chooses():
    features, targets = problem(20, 12)
    standard = scaled(features)
    penalties = [1e-4, 1e-2, 1e-1, 1.0, 1e2]
    errors = [float(left_out_error(standard, targets, penalty)) for penalty in penalties]
    found = ridge_regression(features, targets, penalties=penalties)
    assert found.penalty == penalties[errors.index(min(errors))]
    reference = RidgeCV([len(standard) * penalty for penalty in penalties]).fit(standard, targets)
    assert found.penalty * len(standard) == pytest.approx(reference.alpha_)


def test_constant_features_have_no_weight():
    features, targets = problem()
    padded = torch.cat([features, torch.full((30, 1), 0.1, dtype=torch.float64)], dim=1)
    assert ridge_regression(padded, targets).weight[:, -1].abs().max() < 1e-12
    found = ridge_regression(torch.ones(30, 2), targets)
    assert not found.weight.any()
    assert_close(found.bias, targets.mean(0))


def test_a_feature_that_fired_once_stays_small():
    features, targets = problem()
    rare = torch.zeros(30, 1, dtype=torch.float64)
    rare[0] = 1e-3
    found = ridge_regression(torch.cat([features, rare], dim=1), targets, penalties=[1e-2])
    assert found.weight[:, -1].abs().max() < 1e-2 * found.weight.abs().max()


def test_scale_and_shift_of_features_do_not_matter():
    features, targets = problem()
    found, plain = ridge_regression(1e3 * features.float() - 5, targets), ridge_regression(features, targets)
    assert_close(
        found.predictions(1e3 * features.float() - 5), plain.predictions(features), rtol=1e-4, atol=1e-4
    )


def test_predictions_check_their_width():
    with pytest.raises(ValueError, match=r"Expected `features` of shape \(N, 2\), got \(1, 3\)"):
        LinearRegressor(torch.ones(1, 2), torch.ones(1), 1.0).predictions(torch.ones(1, 3))


def test_score():
    targets = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])
    guess = torch.tensor([[0.0, 2.0], [2.0, 2.0], [1.0, 2.0]])
    assert_close(r2_score(guess, targets), torch.tensor([1 - 9 / 8, 0.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="Expected `targets` that vary in every column, got a constant one"):
        r2_score(targets, torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"Expected `predictions` of shape \(3, 2\), got \(3, 1\)"):
        r2_score(guess[:, :1], targets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"features": torch.ones(1, 2), "targets": torch.ones(1, 1)},
            "Expected at least 2 rows of `features`, got 1",
        ),
        ({"targets": torch.ones(3, 1)}, r"Expected `targets` of shape \(4, K\), got \(3, 1\)"),
        ({"features": torch.full((4, 2), torch.nan)}, "Expected finite `features`, got 8 of 8"),
        ({"penalties": []}, "Expected `penalties` of at least 1 elements, got 0"),
        ({"penalties": [0.0, 1.0]}, r"Expected `penalties` > 0, got 0\.0"),
    ],
)
def test_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        ridge_regression(**{"features": torch.randn(4, 2), "targets": torch.randn(4, 1)} | arguments)
