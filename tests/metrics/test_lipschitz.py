"""Estimates of Lipschitz constants: single pairs in loops, and dense matrices of whole layers."""

import itertools
import math

import pytest
import torch
from torch import nn

from lightning_ssl_theory.metrics import nearest_views, observed_lipschitz, spectral_norm_product


def test_largest_ratio_at_nearest_views() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(9, 3, 4, generator=generator, dtype=torch.float64)
    features = torch.randn(9, 3, 2, generator=generator, dtype=torch.float64)
    labels = torch.arange(9) % 2
    expected = 0.0
    for i, j in itertools.combinations(range(9), 2):
        if labels[i] == labels[j]:
            pairs = itertools.product(range(3), range(3))
            gap, a, b = min((math.dist(samples[i, a], samples[j, b]), a, b) for a, b in pairs)
            expected = max(expected, math.dist(features[i, a], features[j, b]) / gap)
    found = observed_lipschitz(features, nearest_views(samples, labels))
    assert found.item() == pytest.approx(expected)
    assert observed_lipschitz(3 * samples, nearest_views(samples)).item() == pytest.approx(3)


def test_views_that_coincide_and_single_samples_have_no_ratio() -> None:
    same = torch.ones(3, 2, 4)
    assert observed_lipschitz(torch.randn(3, 2, 2), nearest_views(same)) == 0
    assert observed_lipschitz(torch.randn(1, 2, 2), nearest_views(torch.randn(1, 2, 4))) == 0
    with pytest.raises(ValueError, match="Expected `nearest` of 2 samples, got"):
        observed_lipschitz(torch.randn(2, 2, 2), nearest_views(same))


LAYERS = {
    "linear": (nn.Linear(6, 4), (6,), 1.0),
    "conv": (nn.Conv2d(2, 3, 3, padding=1), (2, 8, 8), 1.25),
    "conv-strided-grouped": (nn.Conv2d(4, 4, 3, stride=2, groups=2), (4, 9, 9), 2.2),
    "conv-circular": (nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), (2, 16), 1.1),
    "conv-1x1": (nn.Conv2d(3, 5, 1), (3, 4, 4), 1 + 1e-5),
    "conv-dilated": (nn.Conv1d(2, 2, 3, dilation=2), (2, 24), 1.2),
    "mean": (nn.AvgPool2d(2), (2, 4, 4), 1 + 1e-5),
    "norm": (nn.BatchNorm1d(4).eval(), (4,), 1 + 1e-5),
}


@pytest.mark.parametrize("name", LAYERS)
def test_spectral_norms_bound_the_dense_matrix_and_are_near_it(name) -> None:
    layer, shape, most = LAYERS[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
        if name == "norm":
            layer.running_var = torch.rand(4) + 0.1
    dense = torch.autograd.functional.jacobian(lambda x: layer(x).flatten(), torch.zeros(1, *shape)).flatten(
        1
    )
    exact = torch.linalg.svdvals(dense)[0].item()
    assert exact * (1 - 1e-5) <= spectral_norm_product([layer]) <= most * exact


def test_products_and_layers_that_are_not_known() -> None:
    layer = nn.Linear(3, 3)
    norm = torch.linalg.svdvals(layer.weight.detach().double())[0].item()
    chain = [
        nn.Flatten(),
        layer,
        nn.ReLU(inplace=True),
        nn.Dropout(),
        layer,
        nn.LeakyReLU(0.1),
        nn.Tanh(),
        nn.ELU(),
    ]
    assert spectral_norm_product(chain) == pytest.approx(norm**2)
    with pytest.raises(ValueError, match="Expected `layers` of at least 1 elements, got 0"):
        spectral_norm_product([])
    maxima = [nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((1, 1))]
    assert spectral_norm_product(maxima) == 1
    for other in (
        nn.GELU(),
        nn.LayerNorm(3),
        nn.LeakyReLU(2.0),
        nn.MaxPool2d(3, stride=2),
        nn.AvgPool2d(2, padding=1),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.BatchNorm1d(3, track_running_stats=False),
        nn.AdaptiveAvgPool2d(2),
        nn.LSTM(3, 3),
    ):
        assert spectral_norm_product([layer, other]) is None, other
