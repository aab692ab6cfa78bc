from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from helpers.dense_operator import (
    augmentation_loop,
    connections_loop,
    plugin_loop,
    unbiased_loop,
    weighted_loop,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.losses import InfoNCELoss, SimpleContrastiveLoss, SoftTripletLoss
from lightning_ssl_theory.operators import covariance_operators, half_squared_distances

F64 = torch.float64


def mlp(bias=False, activation=nn.ReLU):
    return nn.Sequential(
        nn.Linear(5, 7, bias=bias),
        activation(),
        nn.Linear(7, 6, bias=bias),
        activation(),
        nn.Linear(6, 3, bias=bias),
    ).double()


def convnet(bias=False):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=bias),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(4, 4, 3, stride=2, groups=2, dilation=2, padding=2, bias=bias),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3, bias=bias),
    ).double()


def conv1d():
    return nn.Sequential(
        nn.Conv1d(2, 3, 3, padding=2, padding_mode="circular", bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
    ).double()


CASES = [
    pytest.param(mlp, (5,), id="mlp"),
    pytest.param(lambda: mlp(activation=nn.LeakyReLU), (5,), id="leaky-relu"),
    pytest.param(convnet, (2, 6, 6), id="conv"),
    pytest.param(conv1d, (2, 8), id="conv1d-circular"),
]


def draw_views(shape, num_samples=5, num_views=3):
    base = torch.randn(num_samples, 1, *shape, dtype=F64)
    return base + 0.5 * torch.randn(num_samples, num_views, *shape, dtype=F64)


def all_pairs_gradient(model, views, beta=0.0):
    """Gradients of L_simp over all pairs of samples and views, the population loss, by autograd alone."""
    outputs = model(views.flatten(0, 1)).unflatten(0, views.shape[:2])

    def half_distances(left, right):
        return (left[:, None] - right[None]).square().sum(-1).mean() / 2

    positive = torch.stack([half_distances(f, f) for f in outputs]).mean()
    flat = outputs.flatten(0, 1)
    loss = (1 + beta) * positive - half_distances(flat, flat)
    weights = {
        n.removesuffix("weight").rstrip("."): p for n, p in model.named_parameters() if n.endswith("weight")
    }
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def test_oracle_by_hand():
    # f = w x with x = 1, -1: K = x, so OP = Var(x) = 1 and the gradient of L_simp is -2 w.
    model = nn.Linear(1, 1, bias=False).double()
    views = torch.tensor([[[1.0]], [[-1.0]]], dtype=F64)
    assert_close(plugin_loop(connections_loop(model, views, "")), torch.ones(1, 1, dtype=F64))
    assert_close(all_pairs_gradient(model, views)[""], -2 * model.weight.detach())


@pytest.mark.parametrize(("build", "shape"), CASES)
def test_population_identity(build, shape):
    model, views = build(), draw_views(shape)
    gradients = all_pairs_gradient(model, views)
    for name, operator in covariance_operators(model, views).items():
        weight = model.get_submodule(name).weight.detach().reshape(-1)
        error = (gradients[name].reshape(-1) + 2 * (operator @ weight)).norm() / gradients[name].norm()
        assert error < 1e-10, name


@pytest.mark.parametrize(("build", "shape"), CASES)
def test_beta_identity(build, shape):
    model, views = build(), draw_views(shape)
    gradients = all_pairs_gradient(model, views, beta=0.7)
    signal = covariance_operators(model, views)
    noise = covariance_operators(model, views, part="augmentation")
    for name in signal:
        weight = model.get_submodule(name).weight.detach().reshape(-1)
        predicted = -2 * (signal[name] @ weight) + 2 * 0.7 * (noise[name] @ weight)
        assert (gradients[name].reshape(-1) - predicted).norm() < 1e-10 * gradients[name].norm()


@pytest.mark.parametrize(("build", "shape"), CASES)
def test_in_batch_identity_of_the_simple_loss(build, shape):
    model, views = build(), draw_views(shape, num_views=2)
    outputs = model(views.flatten(0, 1)).unflatten(0, (-1, 2))
    loss = SimpleContrastiveLoss()(outputs[:, 0], outputs[:, 1])
    for name, operator in covariance_operators(model, views, estimator="unbiased").items():
        weight = model.get_submodule(name).weight
        (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
        predicted = -2 * (operator @ weight.detach().reshape(-1))
        assert (gradient.reshape(-1) - predicted).norm() < 1e-10 * gradient.norm()


@pytest.mark.parametrize(("build", "shape"), CASES)
def test_every_estimator_matches_its_definition(build, shape):
    model, views = build(), draw_views(shape, num_samples=4)
    weight_of = SoftTripletLoss(temperature=0.5, margin=0.1).pair_weight
    xi = weight_of(half_squared_distances(model(views.flatten(0, 1)).detach().unflatten(0, (4, 3)).mean(1)))
    for name in covariance_operators(model, views):
        k = connections_loop(model, views, name)
        expected = {
            ("plugin", "signal", None): plugin_loop(k),
            ("unbiased", "signal", None): unbiased_loop(k),
            ("plugin", "signal", weight_of): weighted_loop(k, xi),
            ("plugin", "augmentation", None): augmentation_loop(k, unbiased=False),
            ("unbiased", "augmentation", None): augmentation_loop(k, unbiased=True),
        }
        for (estimator, part, pair_weight), dense in expected.items():
            operators = covariance_operators(
                model, views, [name], pair_weight, estimator=estimator, part=part
            )
            check_operator(operators[name], dense)


def check_operator(operator, dense):
    assert_close(operator.to_dense(), dense)
    vectors = torch.randn(dense.shape[0], 2, dtype=dense.dtype)
    assert_close(operator @ vectors, dense @ vectors)
    assert_close(operator.trace(), dense.trace())
    assert_close(operator.frobenius_norm(), dense.norm())
    eigenvalues = torch.linalg.eigvalsh(dense).flip(0)
    assert_close(operator.eigenvalues(3), eigenvalues[:3], atol=1e-10, rtol=1e-8)
    shares = eigenvalues.clamp(min=0) / eigenvalues.clamp(min=0).sum()
    entropy = -(shares * shares.clamp(min=1e-300).log()).sum()
    assert_close(operator.effective_rank(), entropy.exp(), rtol=1e-6, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(
    widths=st.lists(st.integers(1, 5), min_size=3, max_size=4),
    samples=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_plugin_operators_are_positive_and_match_dense(widths, samples, seed):
    torch.manual_seed(seed)
    layers = [nn.Linear(*pair, bias=False) for pair in pairwise(widths)]
    model = nn.Sequential(*[m for layer in layers for m in (layer, nn.LeakyReLU(0.2))]).double()
    views = torch.randn(samples, 2, widths[0], dtype=F64)
    for name, operator in covariance_operators(model, views).items():
        dense = plugin_loop(connections_loop(model, views, name))
        size = max(1.0, float(dense.norm()))
        assert_close(operator.trace(), dense.trace(), rtol=1e-8, atol=1e-12)
        assert_close(operator.frobenius_norm(), dense.norm(), rtol=1e-8, atol=1e-12)
        found, expected = operator.eigenvalues(), torch.linalg.eigvalsh(dense).flip(0)
        assert_close(found, expected[: len(found)], rtol=1e-8, atol=1e-10 * size)
        assert expected[len(found) :].abs().sum() < 1e-10 * size
        assert found.min() > -1e-10 * size
        xi = torch.rand(samples, samples, dtype=F64)
        weighted = covariance_operators(model, views, [name], lambda r, xi=xi: xi + xi.mT)[name]
        dense = weighted_loop(connections_loop(model, views, name), xi + xi.mT)
        assert_close(weighted.trace(), dense.trace(), rtol=1e-8, atol=1e-12)
        assert weighted.eigenvalues().min() > -1e-10 * max(1.0, float(dense.norm()))


def test_random_probes_are_unbiased():
    model, views = mlp(), draw_views((5,))
    exact = covariance_operators(model, views, ["0"])["0"]
    generator = torch.Generator().manual_seed(0)
    draws = [
        covariance_operators(model, views, ["0"], num_probes=2, generator=generator)["0"] for _ in range(200)
    ]
    traces = torch.stack([d.trace() for d in draws])
    assert abs(traces.mean() - exact.trace()) < 4 * traces.std() / 200**0.5
    squares = torch.stack([d.frobenius_norm().square() for d in draws])
    assert abs(squares.mean() - exact.frobenius_norm().square()) < 4 * squares.std() / 200**0.5


def test_all_unit_probes_in_chunks_equal_random_probes_in_mean_only():
    model, views = mlp(), draw_views((5,))
    operator = covariance_operators(model, views, ["0"], num_probes=1)["0"]
    with pytest.raises(ValueError, match="Expected all unit probes for a spectrum, got 1 random ones"):
        operator.eigenvalues(1)
    with pytest.raises(ValueError, match="Expected at least 2 random probes for a Frobenius norm, got 1"):
        operator.frobenius_norm()
    assert operator.trace_error95().isnan()


def test_batch_norm_statistics_are_held_and_untouched():
    def build():
        return nn.Sequential(
            nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3)
        ).double()

    model, views = build().train(), draw_views((5,))
    before = deepcopy(model.state_dict())
    state = torch.get_rng_state()
    operators = covariance_operators(model, views)
    assert torch.equal(state, torch.get_rng_state())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())

    hidden = model[0](views.flatten(0, 1)).detach()
    frozen = deepcopy(model).eval()
    frozen[1].running_mean.copy_(hidden.mean(0))
    frozen[1].running_var.copy_(hidden.var(0, unbiased=False))
    for name in operators:
        assert_close(operators[name].to_dense(), plugin_loop(connections_loop(frozen, views, name)))


def test_nothing_of_the_parameters_is_touched():
    model, views = mlp(), draw_views((5,))
    model[0].weight.requires_grad_(False)
    covariance_operators(model, views)
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == [False, True, True]


def test_works_in_inference_mode():
    model, views = mlp(), draw_views((5,))
    expected = covariance_operators(model, views)["2"].trace()
    with torch.inference_mode():
        assert_close(covariance_operators(model, views.clone())["2"].trace(), expected)


def test_infonce_prediction_is_exact_without_augmentation():
    model = mlp()
    views = draw_views((5,), num_samples=6, num_views=1).expand(-1, 2, -1).contiguous()
    loss = InfoNCELoss(temperature=0.7, distance="squared")
    outputs = model(views.flatten(0, 1)).unflatten(0, (-1, 2))
    value = loss(outputs[:, 0], outputs[:, 1])
    for name, operator in covariance_operators(model, views, pair_weight=loss.pair_weight).items():
        weight = model.get_submodule(name).weight
        (gradient,) = torch.autograd.grad(value, weight, retain_graph=True)
        predicted = -2 * (operator @ weight.detach().reshape(-1))
        assert (gradient.reshape(-1) - predicted).norm() < 1e-10 * gradient.norm()


WEIGHTED_LOSSES = [
    pytest.param(SoftTripletLoss(temperature=0.5, margin=0.1), id="triplet"),
    pytest.param(InfoNCELoss(temperature=0.5, distance="squared", num_negatives=1), id="one-negative"),
    pytest.param(InfoNCELoss(temperature=0.5, distance="squared"), id="in-batch"),
]


def weighted_residue(loss, strength):
    """||E gradient + 2 E OP^xi w|| / ||E gradient||, both views drawn in pairs of opposite noise."""
    torch.manual_seed(1)
    model = mlp(activation=nn.LeakyReLU)
    base = torch.randn(6, 1, 5, dtype=F64)
    gradients, predictions = [], []
    for _ in range(12):
        noise = strength * torch.randn(6, 2, 5, dtype=F64)
        for views in (base + noise, base - noise):
            outputs = model(views.flatten(0, 1)).unflatten(0, (6, 2))
            weight = model[0].weight
            (gradient,) = torch.autograd.grad(loss(outputs[:, 0], outputs[:, 1]), weight)
            operator = covariance_operators(model, views, ["0"], loss.pair_weight)["0"]
            gradients.append(gradient.reshape(-1))
            predictions.append(-2 * (operator @ weight.detach().reshape(-1)))
    difference = sum(gradients) - sum(predictions)
    return float(difference.norm() / sum(gradients).norm())


@pytest.mark.parametrize("loss", WEIGHTED_LOSSES)
def test_weighted_residue_falls_with_the_square_of_the_augmentation(loss):
    """In-batch weights, several negatives included, which Theorem 4 does not cover.

    Measured: 2.00 at each doubling for all three losses, with strengths below the distance to the nearest kink of the
    activations. Samples that cross one add terms of lower order: from 0.005 to 0.04 the slopes are 1.3 to 1.5 here.
    """
    residues = torch.tensor([weighted_residue(loss, s) for s in (0.0002, 0.0004, 0.0008, 0.0016)], dtype=F64)
    slopes = (residues[1:] / residues[:-1]).log2()
    assert slopes.min() > 1.7, slopes


REJECTED = [
    pytest.param({"layers": ["3.weight"]}, ValueError, r"Expected the path of a layer of Sequential, got '3.weight'; the nearest are '3'", id="unknown"),
    pytest.param({"layers": ["1"]}, ValueError, "Expected layer '1' to hold its weight as a parameter, found none or a computed one in ReLU; name a layer inside it", id="type"),
    pytest.param({"num_probes": 0}, ValueError, "Expected `num_probes` of at least 1, got 0", id="probes"),
    pytest.param({"views": torch.randn(4, 5)}, ValueError, r"Expected `views` of shape \(N, A, \*input\), got \(4, 5\)", id="views"),
    pytest.param({"views": torch.ones(4, 2, 5, dtype=torch.long)}, ValueError, "Expected samples that differ, got 8 equal ones; pass views of different samples", id="equal-tokens"),
    pytest.param({"views": torch.randn(1, 2, 5)}, ValueError, "Expected at least 2 samples for a covariance, got 1", id="one-sample"),
    pytest.param({"views": torch.randn(3, 1, 5), "estimator": "unbiased"}, ValueError, "Expected `views` with at least 2 views of each sample, got 1", id="one-view"),
    pytest.param({"views": torch.full((3, 2, 5), torch.nan)}, ValueError, "Expected finite network outputs, found NaN", id="nan"),
    pytest.param({"part": "augmentation", "pair_weight": lambda r: r}, ValueError, "Expected no pair weight for the augmentation part", id="weight"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), REJECTED)
def test_rejects(arguments, error, message):
    arguments = {"model": mlp(), "views": draw_views((5,))} | arguments
    with pytest.raises(error, match=message):
        covariance_operators(**arguments)


def test_rejects_outputs_that_are_no_matrix():
    with pytest.raises(
        ValueError,
        match=r"Expected the network's output of shape \(N, D\), for 3 inputs \(3, D\), got \(3, 2, 3\)",
    ):
        covariance_operators(nn.Linear(5, 3), torch.randn(2, 2, 2, 5))


def named_layer(reason):
    return f"Expected a layer that is one linear map of its weight on the way to the output, {reason}; leave it out"


def test_rejects_shared_computed_and_unreached_layers():
    shared = nn.Linear(5, 5)
    with pytest.raises(ValueError, match=named_layer("'0' sees more than one input in a forward pass")):
        covariance_operators(nn.Sequential(shared, shared), torch.randn(2, 2, 5), ["0"])
    with pytest.raises(
        ValueError,
        match=r"depend on a traced layer with a gradient, it does not \('0' sees more than one input",
    ):
        covariance_operators(nn.Sequential(shared, shared), torch.randn(2, 2, 5))
    model = nn.Sequential(torch.nn.utils.parametrizations.orthogonal(nn.Linear(5, 5)))
    with pytest.raises(
        ValueError, match="Expected layer '0' to hold its weight as a parameter, found none or a computed one"
    ):
        covariance_operators(model, torch.randn(2, 2, 5), ["0"])
    model = nn.Module()
    model.used, model.unused, model.forward = nn.Linear(5, 2), nn.Linear(5, 2), None
    with pytest.raises(ValueError, match=named_layer("'unused' is not reached by the forward pass, or .*")):
        covariance_operators(model, torch.randn(2, 2, 5), ["unused"], output=model.used)


def test_rejects_vectors_and_ranks_that_do_not_fit():
    operator = covariance_operators(mlp(), draw_views((5,)))["0"]
    with pytest.raises(ValueError, match=r"Expected `vector` of shape \(35,\) or \(35, k\), got \(7, 5\)"):
        operator @ torch.ones(7, 5, dtype=F64)
    with pytest.raises(ValueError, match="Expected `k` between 1 and 35, the largest rank possible, got 36"):
        operator.eigenvalues(36)
