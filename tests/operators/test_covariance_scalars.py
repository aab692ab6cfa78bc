"""Scalars streamed over probes and samples, against the dense operators from one Jacobian a view."""

import sys

import pytest
import torch
from helpers.dense_operator import augmentation_loop, connections_loop, plugin_loop, unbiased_loop
from helpers.small_networks import (
    F64,
    IMAGE_SHAPE,
    bias_free_mlp,
    biased_mlp,
    draw_views,
    held_copy,
    residual_net,
)
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.operators import covariance_operators, covariance_scalars, covariance_spectra
from lightning_ssl_theory.tracing.chunked_trace import ChunkedTrace

ESTIMATORS = ["plugin", "unbiased"]
MODULE = sys.modules["lightning_ssl_theory.operators.covariance_scalars"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def dense_scalars(model, views, name, estimator):
    k = connections_loop(model, views, name)
    signal = unbiased_loop(k) if estimator == "unbiased" else plugin_loop(k)
    augmentation = augmentation_loop(k, unbiased=estimator == "unbiased")
    weight = model.get_submodule(name).weight.detach().reshape(-1)
    ratio = signal.trace() / (signal.trace() + augmentation.trace())
    growth = weight @ signal @ weight / weight.square().sum()
    return {"trace": signal.trace(), "signal_ratio": ratio.clamp(0, 1), "growth_rate": growth}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("build", [biased_mlp, bias_free_mlp, residual_net])
def test_all_unit_probes_equal_the_dense_operator(build, estimator):
    model = build()
    shape = IMAGE_SHAPE if build is residual_net else (5,)
    views = draw_views(shape, num_views=3)
    held = held_copy(model, views.flatten(0, 1)) if build is residual_net else model
    found = covariance_scalars(model, views, [nn.Module], num_probes=None, estimator=estimator)
    for name, values in found.items():
        for key, expected in dense_scalars(held, views, name, estimator).items():
            assert_close(getattr(values, key), expected, rtol=1e-8, atol=1e-12)
        assert (values.trace_error95, values.signal_ratio_error95, values.growth_rate_error95) == (0, 0, 0)
        assert values.residual is None
        assert values.cosine is None


def columns(values):
    return torch.stack([value for value in values if value is not None])


@pytest.mark.parametrize("num_probes", [None, 3, 5])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_chunks_equal_the_whole(estimator, num_probes, monkeypatch):
    """With BatchNorm, and with blocks of fewer probes than are asked for (3 outputs, blocks of 2)."""
    monkeypatch.setattr(MODULE, "PROBES_AT_ONCE", 2)
    model, views = residual_net(), draw_views(IMAGE_SHAPE)

    def found(budget):
        return covariance_scalars(
            model,
            views,
            [nn.Module],
            num_probes=num_probes,
            loss=InfoNCELoss(),
            estimator=estimator,
            memory_budget=budget,
            generator=seeded(),
        )

    whole = found(2**30)
    for budget in (50_000, 80_000, 130_000):
        for name, values in found(budget).items():
            assert_close(columns(values), columns(whole[name]), rtol=1e-9, atol=1e-14)


def test_fewer_probes_at_once_where_the_budget_holds_no_more():
    model, views = residual_net(), draw_views(IMAGE_SHAPE)
    with pytest.raises(ValueError, match="holds one sample, ") as caught:
        ChunkedTrace(model, views, memory_budget=0)
    budget = int(str(caught.value).split("one sample, ")[1].split(" ")[0])
    assert ChunkedTrace(model, views, num_columns=7, memory_budget=budget).num_columns == 1
    whole, least = (
        covariance_scalars(model, views, num_probes=7, memory_budget=size, generator=seeded())
        for size in (2**30, budget)
    )
    for name, values in whole.items():
        assert_close(columns(least[name]), columns(values), rtol=1e-9, atol=1e-14)


def test_more_outputs_than_probes_at_once():
    model, views = biased_mlp(num_outputs=19), draw_views((5,))
    found = covariance_scalars(model, views, num_probes=None)
    for name, values in found.items():
        assert_close(values.trace, plugin_loop(connections_loop(model, views, name)).trace())


def test_the_generator_decides():
    model, views = biased_mlp(), draw_views((5,))
    one, same, other = (covariance_scalars(model, views, generator=seeded(seed))["0"] for seed in (0, 0, 1))
    assert torch.equal(columns(one), columns(same))
    assert not torch.equal(columns(one), columns(other))
    generator = seeded()
    first, second = (covariance_scalars(model, views, generator=generator)["0"] for _ in range(2))
    assert torch.equal(columns(first), columns(one))
    assert first.trace != second.trace


def test_probes_and_weight_vectors_do_not_share_their_signs(monkeypatch):
    """From one seed both would start with the same random words."""
    drawn = {}

    class Recorded(MODULE.WeightDirections):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            drawn[len(drawn)] = self

    monkeypatch.setattr(MODULE, "WeightDirections", Recorded)
    probes = []
    rademacher = MODULE.rademacher_probes
    monkeypatch.setattr(
        MODULE, "rademacher_probes", lambda *a, **k: probes.append(rademacher(*a, **k)) or probes[-1]
    )
    covariance_scalars(biased_mlp(40), draw_views((5,)), num_probes=8, generator=seeded())
    signs = probes[0].flatten().double()
    for directions in drawn.values():
        for vectors in (directions.left, directions.right):
            low_bits = vectors.flatten()[::8]
            size = min(len(signs), len(low_bits))
            assert abs((signs[:size] * low_bits[:size]).mean()) < 5 / size**0.5


def test_the_estimators_differ():
    model, views = biased_mlp(), draw_views((5,))
    plugin, unbiased = (
        covariance_scalars(model, views, num_probes=None, estimator=e)["0"] for e in ESTIMATORS
    )
    for key in ("trace", "signal_ratio", "growth_rate"):
        one, other = getattr(plugin, key), getattr(unbiased, key)
        assert abs(one - other) > 0.01 * abs(one)


def test_without_augmentation_all_is_signal_and_without_samples_none():
    model, same = biased_mlp(), draw_views((5,), num_views=1).expand(-1, 2, -1).contiguous()
    for estimator in ESTIMATORS:
        values = covariance_scalars(model, same, estimator=estimator)["0"]
        assert values.signal_ratio == pytest.approx(1.0)
    swapped = same.transpose(0, 1)[:, :2].contiguous()  # the same two samples as the views of each
    values = covariance_scalars(model, swapped)["0"]
    assert values.trace == pytest.approx(0, abs=1e-12)
    assert values.signal_ratio == pytest.approx(0, abs=1e-12)
    honest = covariance_scalars(model, swapped, estimator="unbiased")["0"]
    assert honest.trace < 0  # an honest estimate of zero
    assert honest.signal_ratio == 0


def test_dead_layers_give_zeros_and_no_nan():
    model = biased_mlp()
    nn.init.zeros_(model[2].weight)
    found = covariance_scalars(model, draw_views((5,)), loss=InfoNCELoss())
    for values in found.values():
        assert columns(values).isfinite().all()
    assert found["0"].trace == 0
    assert found["0"].residual == 0


def test_a_single_probe_knows_no_error():
    values = covariance_scalars(biased_mlp(), draw_views((5,)), num_probes=1)["0"]
    assert values.trace.isfinite()
    for key in ("trace_error95", "signal_ratio_error95", "growth_rate_error95", "frobenius_norm"):
        assert getattr(values, key).isnan()


@pytest.mark.parametrize("num_probes", [2, 4])
def test_growth_rates_of_bias_free_networks_need_no_probe(num_probes):
    """K^T w = f there, so that nothing is left to estimate."""
    model, views = bias_free_mlp(), draw_views((5,))
    exact = covariance_scalars(model, views, num_probes=None)
    for name, values in covariance_scalars(model, views, num_probes=num_probes).items():
        assert_close(values.growth_rate, exact[name].growth_rate)
        assert values.growth_rate_error95 < 1e-14 * values.growth_rate


REPETITIONS = 200
MEASURED = ("trace", "signal_ratio", "growth_rate", "frobenius_norm")


@pytest.mark.parametrize("num_probes", [4, pytest.param(16, marks=pytest.mark.all_cases)])
def test_estimates_are_unbiased_and_know_their_error(num_probes):
    """Shares of 200 draws within the error of the truth, with 4 and with 16 probes of 16 outputs.

    Measured: trace 0.935, 0.955; signal ratio 0.940, 0.935; growth rate 0.950, 0.955; Frobenius norm 0.935, 0.930.
    """
    model = coverage_network()
    views = draw_views((5,), num_samples=12)
    exact = covariance_scalars(model, views, ["0"], num_probes=None)["0"]
    dense = plugin_loop(connections_loop(model, views, "0"))
    generator = seeded(5)
    draws = [
        covariance_scalars(model, views, ["0"], num_probes=num_probes, generator=generator)["0"]
        for _ in range(REPETITIONS)
    ]
    coverages = {}
    for key in MEASURED:
        expected = dense.norm() if key == "frobenius_norm" else getattr(exact, key)
        found = torch.stack([getattr(values, key) for values in draws])
        errors = torch.stack([getattr(values, f"{key}_error95") for values in draws])
        coverages[key] = float(((found - expected).abs() <= errors).double().mean())
        if key in ("trace", "growth_rate"):  # a ratio and a root are not linear
            assert abs(found.mean() - expected) < 4 * found.std() / REPETITIONS**0.5
    squares = torch.stack([values.frobenius_norm.square() for values in draws])
    assert abs(squares.mean() - dense.square().sum()) < 4 * squares.std() / REPETITIONS**0.5
    assert all(0.9 <= share <= 0.99 for share in coverages.values()), coverages


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("budget", [2**30, 80_000], ids=["whole", "chunks"])
def test_exact_growth_rates_need_no_probe(budget, estimator):
    """K^T w is one derivative along the weight; the layers beside them keep their estimates."""
    model, views = residual_net(), draw_views(IMAGE_SHAPE)
    held = held_copy(model, views.flatten(0, 1))

    def found(exact_growth):
        return covariance_scalars(
            model,
            views,
            [nn.Module],
            num_probes=2,
            estimator=estimator,
            exact_growth=exact_growth,
            memory_budget=budget,
            generator=seeded(),
        )

    some, none = found(["inner", nn.BatchNorm2d]), found(())
    for name, values in some.items():
        if name in ("inner", "norm"):
            expected = dense_scalars(held, views, name, estimator)["growth_rate"]
            assert_close(values.growth_rate, expected, rtol=1e-9, atol=1e-14)
            assert abs(none[name].growth_rate - expected) > 1e-6 * abs(expected)
            assert values.growth_rate_error95 == 0
        else:
            assert torch.equal(values.growth_rate, none[name].growth_rate)
        assert torch.equal(values.trace, none[name].trace)


def test_a_plugin_growth_rate_is_never_negative_by_noise():
    """w is a null vector of OP: K^T w is the same for all samples, and its variance 0."""
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 16)).double()
    views = draw_views((5,))
    with torch.no_grad():
        model[0].weight.zero_()[:, 4] = 1.0
        views[..., 4] = 0.0  # the weight multiplies zero
    rates = [
        covariance_scalars(model, views, ["0"], num_probes=2, generator=seeded(seed))["0"]
        for seed in range(20)
    ]
    assert all(values.growth_rate >= 0 for values in rates)
    exact = covariance_scalars(model, views, ["0"], num_probes=2, exact_growth="0")["0"]
    assert exact.growth_rate == pytest.approx(0, abs=1e-25)
    honest = [
        covariance_scalars(model, views, ["0"], num_probes=2, estimator="unbiased", generator=seeded(seed))[
            "0"
        ].growth_rate
        for seed in range(20)
    ]
    assert min(honest) < 0


def test_dropout_from_a_seed_makes_views_of_equal_rows():
    """Without it the views of a sample are one; with it the operators are those of the masked network."""
    model = nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Tanh(), nn.Linear(7, 3)).double()
    same = draw_views((5,), num_samples=12, num_views=1).expand(-1, 2, -1).contiguous()
    assert covariance_scalars(model, same, num_probes=None)["0"].signal_ratio == 1
    found = covariance_scalars(model, same, num_probes=None, dropout_seed=3)
    again = covariance_scalars(model, same, num_probes=None, dropout_seed=3)
    other = covariance_scalars(model, same, num_probes=None, dropout_seed=4)
    operators = covariance_operators(model, same, dropout_seed=3)
    spectra = covariance_spectra(model, same, "0", num_eigenvalues=2, dropout_seed=3)
    for name, values in found.items():
        assert values.signal_ratio < 0.99
        assert torch.equal(values.trace, again[name].trace)
        assert abs(values.trace - other[name].trace) > 1e-3 * values.trace
        assert_close(operators[name].trace(), values.trace)
    assert_close(spectra["0"].eigenvalues, operators["0"].eigenvalues(2))


def test_dropout_refuses_chunks():
    model = nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Tanh(), nn.Linear(7, 3)).double()
    message = (
        "Expected a network that gives a sample the same output in a part of the batch as in the whole, it draws at "
        "random or mixes samples; raise `memory_budget` so that one part holds the batch"
    )
    views = draw_views((5,), num_samples=12)
    for look in (covariance_scalars, lambda *args, **kw: covariance_spectra(*args, [nn.Linear], **kw)):
        with pytest.raises(ValueError, match=message):
            look(model, views, memory_budget=5_000, dropout_seed=3)
        assert set(look(model, views, memory_budget=5_000)) == {"0", "3"}


class Counted:
    """Sums over one rank, and how often they were asked for."""

    def __init__(self):
        self.sizes = []

    def __call__(self, tensor):
        self.sizes.append(tensor.numel())
        return tensor


@pytest.mark.parametrize("depth", [1, 6])
def test_sums_of_all_layers_cross_ranks_together(depth):
    """As many sums for 13 layers as for 3, two for float32 views: in float32 and in float64."""
    layers = [module for _ in range(depth) for module in (nn.Linear(5, 5), nn.LayerNorm(5))]
    model = nn.Sequential(*layers, nn.Linear(5, 3))
    counted = Counted()
    covariance_scalars(
        model, draw_views((5,)).float(), [nn.Module], loss=InfoNCELoss(), num_sketches=4, all_sum=counted
    )
    num_weights = sum(parameter.numel() for name, parameter in model.named_parameters() if "weight" in name)
    num_numbers = (2 * depth + 1) * 4 * (2 + 2 * 16 + 4 + 3)
    assert [size for size in counted.sizes if size > 50] == [num_numbers, (4 + 3) * num_weights]
    assert len(counted.sizes) < 16


class Passes(nn.Module):
    """Counts the forward and backward passes over more than the few rows of a rehearsal."""

    def __init__(self):
        super().__init__()
        self.forward_passes, self.backward_passes = [], []

    def forward(self, x):
        self.forward_passes.append(len(x))
        if x.requires_grad:
            x = x * 1.0
            x.register_hook(lambda gradient: self.backward_passes.append(len(gradient)))
        return x


@pytest.mark.parametrize(
    ("num_probes", "with_loss", "expected"), [(4, False, 5), (4, True, 7), (None, True, 22)]
)
def test_passes_over_the_batch(num_probes, with_loss, expected):
    """One forward pass; m + 1 backward passes, 2 more with a loss."""
    passes = Passes()
    model = nn.Sequential(nn.Linear(5, 7), passes, nn.Linear(7, 19)).double()
    loss = InfoNCELoss() if with_loss else None
    covariance_scalars(model, draw_views((5,), num_samples=6), num_probes=num_probes, loss=loss)
    assert [size for size in passes.forward_passes if size > 3] == [12]
    assert [size for size in passes.backward_passes if size > 3] == [12] * expected


def test_passes_over_chunks():
    """A pass without gradients over all, and one with them over each chunk for every 8 probes."""
    passes = Passes()
    model = nn.Sequential(nn.Linear(5, 7), passes, nn.Linear(7, 19)).double()
    views = draw_views((5,), num_samples=8)
    covariance_scalars(model, views, num_probes=8, loss=InfoNCELoss(), memory_budget=24_000)
    assert sum(passes.forward_passes) == 2 * 16 + 2 * 3  # twice three rows rehearse
    assert len(passes.forward_passes) > 4


def coverage_network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 10), nn.Tanh(), nn.Linear(10, 16)).double()


REJECTED = [
    pytest.param({"views": torch.randn(4, 1, 5, dtype=F64)}, ValueError, "Expected at least 2 views of at least 2 samples, got 1 views of 4; pass a batch of positive pairs", id="one-view"),
    pytest.param({"views": torch.randn(1, 2, 5, dtype=F64)}, ValueError, "Expected at least 2 views of at least 2 samples, got 2 views of 1", id="one-sample"),
    pytest.param({"views": torch.randn(4, 5)}, ValueError, r"Expected `views` of shape \(N, A, \*input\), got \(4, 5\); stack the A views", id="shape"),
    pytest.param({"views": torch.ones(4, 2, 5, dtype=torch.long)}, ValueError, "Expected samples that differ, got 8 equal ones; pass views of different samples", id="equal-tokens"),
    pytest.param({"estimator": "jackknife"}, ValueError, "Expected `estimator` to be one of plugin, unbiased, got 'jackknife'; choose one", id="estimator"),
    pytest.param({"num_probes": 0}, ValueError, "Expected `num_probes` of at least 1, got 0; use None for exact values", id="probes"),
    pytest.param({"memory_budget": 100}, ValueError, r"Expected a `memory_budget` that holds one sample, \d+ bytes here, got 100; raise it", id="budget"),
    pytest.param({"layers": ["0", "5"]}, ValueError, "Expected the path of a layer of Sequential, got '5'", id="unknown"),
    pytest.param({"views": torch.full((4, 2, 5), torch.inf, dtype=F64)}, ValueError, "Expected finite network outputs, found NaN or infinity", id="infinite"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), REJECTED)
def test_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        covariance_scalars(biased_mlp(), **({"views": draw_views((5,))} | arguments))


def test_names_the_layer_whose_gradients_are_not_finite():
    """The root of a square at zero: 0 times infinity comes back to the layer before it."""

    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.high, self.head = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.high(self.low(x)).square().sqrt())

    model = Root().double()
    with torch.no_grad():
        model.high.weight[0], model.high.bias[0] = 0, 0
    message = (
        "Expected finite gradients of the output at layer 'high', found NaN or infinity; look for a square"
    )
    for num_probes in (4, None):
        with pytest.raises(ValueError, match=message):
            covariance_scalars(model, draw_views((5,)), ["high"], num_probes=num_probes)
    assert covariance_scalars(model, draw_views((5,)), ["head"])["head"].trace > 0
