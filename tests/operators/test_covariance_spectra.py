"""Spectra of named layers by both ways, against the dense operator."""

import sys

import pytest
import torch
from helpers.dense_operator import connections_loop, plugin_loop
from helpers.small_networks import (
    F64,
    IMAGE_SHAPE,
    biased_mlp,
    built,
    draw_views,
    held_copy,
    residual_net,
)
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.operators import covariance_spectra, effective_rank, spectrum_cost

METHODS = ["gram", "lanczos"]


def check_spectrum(found, dense, weight, k, has_rank):
    values, vectors = torch.linalg.eigh(dense)
    values, vectors = values.flip(0), vectors.mT.flip(0)[:k]
    assert_close(found.eigenvalues, values[:k], rtol=1e-8, atol=1e-12 * float(values[0]))
    rows = found.eigenvectors.flatten(1)
    assert found.eigenvectors.shape == (k, *weight.shape)
    assert_close(rows @ rows.mT, torch.eye(k, dtype=F64), atol=1e-7, rtol=0)
    assert_close(rows @ dense, found.eigenvalues[:, None] * rows, atol=1e-7 * float(values[0]), rtol=0)
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()
    flat = weight.detach().reshape(-1)
    cosine = (vectors @ flat).norm() / flat.norm()
    assert_close(found.weight_cosine, cosine, atol=1e-6, rtol=0)
    assert 0 <= found.weight_cosine <= 1
    if has_rank:
        assert_close(found.effective_rank, effective_rank(values), rtol=1e-8, atol=0)
    else:
        assert found.effective_rank is None


@pytest.mark.parametrize("budget", [2**30, 60_000], ids=["whole", "chunks"])
@pytest.mark.parametrize("method", METHODS)
def test_every_layer_of_a_residual_net(method, budget):
    model, views = residual_net(), draw_views(IMAGE_SHAPE, num_samples=4)
    held = held_copy(model, views.flatten(0, 1))
    found = covariance_spectra(
        model, views, [nn.Module], num_eigenvalues=3, method=method, memory_budget=budget
    )
    assert set(found) == {"stem", "norm", "inner", "inner_norm", "outer", "head"}
    for name, spectrum in found.items():
        dense = plugin_loop(connections_loop(held, views, name))
        weight = model.get_submodule(name).weight
        check_spectrum(spectrum, dense, weight, 3, method == "gram")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_samples", [3, 40], ids=["fewer-rows-than-weights", "more-rows"])
def test_few_and_many_samples(num_samples, method):
    # three outputs: at the last layer every eigenvalue comes three times
    model, views = biased_mlp(), draw_views((5,), num_samples=num_samples)
    for name, spectrum in covariance_spectra(
        model, views, ["0", "2"], num_eigenvalues=3, method=method
    ).items():
        dense = plugin_loop(connections_loop(model, views, name))
        check_spectrum(spectrum, dense, model.get_submodule(name).weight, 3, method == "gram")


def test_all_eigenvalues_come_from_the_gram_matrix():
    """ARPACK finds k < P; the whole spectrum is asked of the other way."""
    model, views = biased_mlp(), draw_views((5,), num_samples=40)
    found = covariance_spectra(model, views, "2", num_eigenvalues=21, method="lanczos")["2"]
    dense = plugin_loop(connections_loop(model, views, "2"))
    assert_close(found.eigenvalues, torch.linalg.eigvalsh(dense).flip(0), rtol=1e-8, atol=1e-12)
    assert_close(found.weight_cosine, torch.ones((), dtype=F64))
    assert found.effective_rank is not None


def test_more_eigenvalues_than_the_rank_read_zero():
    """Two samples, three outputs: rank three at most; one output alone: rank one."""
    views = draw_views((5,), num_samples=2)
    for method in METHODS:
        values = covariance_spectra(biased_mlp(), views, "0", num_eigenvalues=3, method=method)["0"][0]
        assert (values > 0).all()
    doubled = draw_views((5,), num_samples=2).repeat(2, 1, 1)  # four samples, of which two are different
    for method in METHODS:
        values = covariance_spectra(biased_mlp(), doubled, "0", num_eigenvalues=5, method=method)["0"][0]
        assert_close(values[3:] / values[0], torch.zeros(2, dtype=F64), atol=1e-10, rtol=0)


def test_a_zero_weight_has_no_direction():
    model = biased_mlp()
    nn.init.zeros_(model[0].weight)
    for method in METHODS:
        found = covariance_spectra(model, draw_views((5,)), "0", num_eigenvalues=2, method=method)["0"]
        assert found.weight_cosine == 0
        assert found.eigenvalues[0] > 0


def test_float32_views_give_float64_numbers_near_the_exact_ones():
    views = draw_views((5,), num_samples=20)
    for method in METHODS:
        exact = covariance_spectra(biased_mlp(), views, "0", num_eigenvalues=2, method=method)["0"]
        single = covariance_spectra(biased_mlp(), views.float(), "0", num_eigenvalues=2, method=method)["0"]
        assert single.eigenvalues.dtype == F64
        assert_close(single.eigenvalues, exact.eigenvalues, rtol=1e-5, atol=0)
        overlap = (single.eigenvectors[0] * exact.eigenvectors[0]).sum()
        assert_close(overlap, torch.ones((), dtype=F64), atol=1e-6, rtol=0)


def test_the_cost_model_counts_multiplications():
    """10 -> 20 -> 2, 50 samples of 2 views; from the first layer on 240 multiplications a pass, 200 weights."""
    model = built(lambda: nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 2)))
    cost = spectrum_cost(model, draw_views((10,), num_samples=1), "0", 50, 3)
    one_pass = 50 * 2 * (240 + 200)
    assert cost.gram == 2 * one_pass + 100 * 100 * 200
    assert cost.lanczos == (4 * 3 + 20) * 3 * one_pass
    assert cost.gram_bytes == 8 * 100 * 200
    top = spectrum_cost(model, draw_views((10,), num_samples=1), "2", 50, 3)
    assert top.gram == 2 * 50 * 2 * (40 + 40) + 40 * 40 * 100
    assert top.gram_bytes == 8 * 40 * 40


def test_the_cost_model_knows_normalisation_layers():
    cost = spectrum_cost(residual_net(), draw_views(IMAGE_SHAPE, num_samples=1), "norm", 50, 2)
    assert cost.gram_bytes == 8 * 4 * 4
    assert 0 < cost.gram < cost.lanczos


def ways_taken(monkeypatch, model, views, name, **arguments):
    taken = []
    module = sys.modules["lightning_ssl_theory.operators.covariance_spectra"]
    for way in ("gram_spectrum", "lanczos_spectrum"):
        call = getattr(module, way)

        def spy(*args, way=way, call=call, **kwargs):
            taken.append(way)
            return call(*args, **kwargs)

        monkeypatch.setattr(module, way, spy)
    found = covariance_spectra(model, views, name, num_eigenvalues=1, **arguments)[name]
    return taken, found


def test_chooses_the_cheaper_way(monkeypatch):
    """A small layer and few outputs: all eigenvalues; many weights, samples and outputs: Lanczos."""
    taken, _ = ways_taken(monkeypatch, biased_mlp(), draw_views((5,)), "0")
    assert taken == ["gram_spectrum"]


def test_chooses_lanczos_for_a_large_layer(monkeypatch):
    large = built(lambda: nn.Sequential(nn.Linear(24, 40), nn.ReLU(), nn.Linear(40, 40)))
    views = draw_views((24,), num_samples=24)
    cost = spectrum_cost(large, views[:1], "0", 24, 1)
    assert cost.gram > cost.lanczos
    taken, found = ways_taken(monkeypatch, large, views, "0")
    assert taken == ["lanczos_spectrum"]
    exact = covariance_spectra(large, views, "0", num_eigenvalues=1, method="gram")["0"]
    assert_close(found.eigenvalues, exact.eigenvalues, rtol=1e-8, atol=0)


def test_a_gram_matrix_beyond_the_budget_goes_to_lanczos(monkeypatch):
    model, views = biased_mlp(), draw_views((5,), num_samples=40)
    cost = spectrum_cost(model, views[:1], "0", 40, 1)
    assert cost.gram < cost.lanczos
    taken, _ = ways_taken(monkeypatch, model, views, "0", memory_budget=cost.gram_bytes - 1)
    assert taken == ["lanczos_spectrum"]


REJECTED = [
    pytest.param({"num_eigenvalues": 13}, r"Expected `num_eigenvalues` between 1 and 12, the largest rank possible at layer '0', got 13; lower it or pass more samples", id="rank"),
    pytest.param({"num_eigenvalues": 0}, "Expected `num_eigenvalues` of at least 1, got 0", id="none"),
    pytest.param({"layers": "2", "views": draw_views((5,), num_samples=40), "num_eigenvalues": 22}, "between 1 and 21, the largest rank possible at layer '2', got 22", id="weights"),
    pytest.param({"views": draw_views((5,), num_samples=1)}, "Expected at least 2 samples for a covariance, got 1; pass a larger batch", id="one-sample"),
    pytest.param({"views": torch.zeros(4, 5)}, r"Expected `views` of shape \(N, A, \*input\), got \(4, 5\)", id="views"),
    pytest.param({"memory_budget": 10}, "Expected a `memory_budget` that holds one sample", id="budget"),
    pytest.param({"layers": "7"}, "Expected the path of a layer of Sequential, got '7'", id="unknown"),
    pytest.param({"layers": "1"}, "Expected layer '1' to hold its weight as a parameter, found none or a computed one in ReLU", id="type"),
    pytest.param({"views": torch.full((5, 2, 5), torch.nan)}, "Expected finite network outputs", id="nan"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), REJECTED)
def test_rejects(arguments, message):
    arguments = {"views": draw_views((5,)), "layers": "0", "num_eigenvalues": 2} | arguments
    with pytest.raises(ValueError, match=message):
        covariance_spectra(biased_mlp(), **arguments)


@pytest.mark.parametrize("method", METHODS)
def test_rejects_gradients_that_are_not_finite(method):
    """The square root's derivative at zero: the outputs are finite, the gradients are not."""

    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.layer(x).square().sqrt())

    model = Root().double()
    with torch.no_grad():
        model.layer.weight[0], model.layer.bias[0] = 0, 0
    message = "Expected finite gradients of the output at layer 'layer', found NaN or infinity"
    with pytest.raises(ValueError, match=message):
        covariance_spectra(model, draw_views((5,)), "layer", num_eigenvalues=2, method=method)


def test_lanczos_that_does_not_converge(monkeypatch):
    module = sys.modules["lightning_ssl_theory.operators.spectrum"]
    eigsh = module.eigsh
    monkeypatch.setattr(module, "eigsh", lambda *args, **kwargs: eigsh(*args, **kwargs, maxiter=1, ncv=4))
    message = (
        r"Expected Lanczos iterations to converge for layer '0', they did not; lower `num_eigenvalues` or"
    )
    with pytest.raises(ValueError, match=message):
        covariance_spectra(biased_mlp(), draw_views((5,), 40), "0", num_eigenvalues=3, method="lanczos")
