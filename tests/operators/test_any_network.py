"""Compiled, half-precision, autocast and frozen networks read what the plain one reads."""

from copy import deepcopy

import pytest
import torch
from helpers.small_networks import IMAGE_SHAPE, built, draw_views, residual_net
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.losses import InfoNCELoss, SimpleContrastiveLoss
from lightning_ssl_theory.operators import covariance_operators, covariance_scalars, covariance_spectra

VIEWS = draw_views(IMAGE_SHAPE)


def look(model, views=VIEWS, layers=("stem", "norm", "inner", "head"), loss=None):
    generator = torch.Generator().manual_seed(0)
    layers = list(layers)
    scalars = covariance_scalars(model, views, layers, loss=loss or InfoNCELoss(), generator=generator)
    found = {name: torch.stack(values) for name, values in scalars.items()}
    for method in ("gram", "lanczos"):
        spectrum = covariance_spectra(model, views, layers[:1], num_eigenvalues=2, method=method)[layers[0]]
        found[method] = spectrum.eigenvalues
    return found


def assert_same(found, expected, **tolerance):
    for key, values in expected.items():
        assert_close(found[key], values, **tolerance)


def test_compiled_in_place():
    model = residual_net()
    model.compile(backend="aot_eager")
    model(VIEWS.flatten(0, 1)[:4])  # the compiled code exists before the look
    state = deepcopy(model.state_dict())
    expected = look(residual_net_with(state))
    assert_same(look(model), expected, rtol=0, atol=0)


def residual_net_with(state):
    model = residual_net()
    model.load_state_dict(state)
    return model


def test_compiled_by_wrapping():
    model = residual_net()
    expected = look(model)
    wrapped = torch.compile(model, backend="aot_eager")
    found = look(wrapped, layers=[f"_orig_mod.{name}" for name in ("stem", "norm", "inner", "head")])
    for name, values in expected.items():
        assert_close(found[name if name in found else f"_orig_mod.{name}"], values, rtol=0, atol=0)


def test_under_autocast():
    model = residual_net().float()
    expected = look(model, VIEWS.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(look(model, VIEWS.float()), expected, rtol=0, atol=0)


def test_half_precision_parameters_are_computed_in_the_views_precision():
    half = residual_net().bfloat16()
    same = deepcopy(half).double()
    assert_same(look(half), look(same), rtol=0, atol=0)
    assert_same(look(half, VIEWS.float()), look(same), rtol=1e-3, atol=1e-5)
    assert half.stem.weight.dtype == torch.bfloat16


def test_views_of_half_precision_give_finite_numbers_near_the_exact_ones():
    model = residual_net()
    scalars = covariance_scalars(model, VIEWS.bfloat16(), num_probes=None)
    for name, exact in covariance_scalars(model, VIEWS, num_probes=None).items():
        assert scalars[name].trace.dtype == torch.float64
        assert scalars[name].trace == pytest.approx(float(exact.trace), rel=0.3)


def test_frozen_layers_are_looked_at_too():
    model = residual_net()
    expected = look(model)
    model.requires_grad_(False)
    assert_same(look(model), expected, rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_in_inference_mode():
    model = residual_net()
    expected = look(model)
    with torch.inference_mode():
        assert_same(look(model, VIEWS.clone()), expected, rtol=0, atol=0)


class Bag(nn.Module):
    """Mean embedding of tokens, then two maps."""

    def __init__(self):
        super().__init__()
        self.tokens, self.hidden, self.head = nn.Embedding(11, 5), nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, ids):
        return self.head(self.hidden(self.tokens(ids).mean(1)).tanh())


def test_views_of_token_ids_are_what_the_network_gets():
    """Integers go in as they are; the operators above are those of the embeddings as views."""
    model = built(Bag)
    ids = torch.randint(11, (5, 2, 4), generator=torch.Generator().manual_seed(0))
    embedded = model.tokens(ids).mean(2).detach()
    above = nn.Sequential(model.hidden, nn.Tanh(), model.head)
    found, expected = covariance_operators(model, ids), covariance_operators(above, embedded)
    assert set(found) == {"hidden", "head"}
    for name, other in (("hidden", "0"), ("head", "2")):
        assert_close(found[name].to_dense(), expected[other].to_dense())
        scalars = covariance_scalars(model, ids, num_probes=None)[name]
        assert_close(scalars.trace, expected[other].trace())
    spectrum = covariance_spectra(model, ids, "hidden", num_eigenvalues=2)["hidden"]
    assert_close(spectrum.eigenvalues, expected["0"].eigenvalues(2))


def test_the_general_form_beside_a_skip_connection():
    """With biases, a skip connection and held BatchNorm the gradient is -2 Cov(K, f) at every layer."""
    found = covariance_scalars(
        residual_net(),
        VIEWS,
        ["stem", "norm", "inner", "inner_norm", "outer", "head"],
        loss=SimpleContrastiveLoss(),
    )
    assert all(values.residual < 1e-10 for values in found.values())
