"""Coordinates of even curvature: their algebra, and the evaluations that they save."""

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.distributed import identity
from lightning_ssl_theory.probes import logistic_classifier
from lightning_ssl_theory.probes.even_curvature import EvenCurvature, even_curvature


def test_curvature_by_hand():
    inputs = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)  # of variance 1
    found = even_curvature(inputs, 2, l2=0.25, num_samples=torch.tensor(2), all_sum=identity)
    assert_close(found.root, torch.tensor([[0.75, 0.0], [0.0, 0.5]], dtype=torch.float64).sqrt())


@pytest.mark.parametrize("is_wide", [False, True])
def test_gradient_is_that_by_the_coordinates(is_wide):
    inputs = torch.randn(20, 3, dtype=torch.float64)
    curvature = even_curvature(inputs, 4, l2=1e-3, num_samples=torch.tensor(20), all_sum=identity)
    curvature = EvenCurvature(None) if is_wide else curvature
    coordinates = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    weights = curvature.weights(coordinates)
    (expected,) = torch.autograd.grad((weights**3).sum(), coordinates)
    assert_close(curvature.gradient(3 * weights.detach() ** 2), expected)
    if not is_wide:
        assert_close(weights @ curvature.root, coordinates)


def test_wide_features_are_left_as_they_are():
    inputs = torch.zeros(1, 4097)
    assert even_curvature(inputs, 2, l2=1e-3, num_samples=torch.tensor(1), all_sum=identity).root is None


def test_features_that_copy_one_another_take_few_evaluations():
    common = torch.randn(400, 1, dtype=torch.float64)
    features = common + 0.1 * torch.randn(400, 60, dtype=torch.float64)
    targets = (features[:, :5] - features[:, 5:10]).argmax(1)
    calls = []

    def counted(value):
        calls.append(value.numel())
        return value

    logistic_classifier(features, targets, 5, all_sum=counted)
    assert calls.count(1 + 5 * 61) < 100  # in the weights themselves 297
