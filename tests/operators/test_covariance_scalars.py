"""Scalars streamed over probes, against the dense operators from one Jacobian a view."""

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.dense_operator import augmentation_loop, connections_loop, plugin_loop, unbiased_loop
from torch import nn

from lightning_ssl_theory.distributed import all_sum
from lightning_ssl_theory.operators import covariance_scalars, rademacher_probes, trace_network

F64 = torch.float64
NUM_OUTPUTS = 3


def mlp():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, NUM_OUTPUTS)).double()


def convnet():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(4, 4, 3, stride=2, groups=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, NUM_OUTPUTS, bias=False),
    ).double()


CASES = [pytest.param(mlp, (5,), id="mlp"), pytest.param(convnet, (2, 6, 6), id="conv")]


def draw_views(shape, num_samples=5, num_views=3):
    generator = torch.Generator().manual_seed(2)
    base = torch.randn(num_samples, 1, *shape, dtype=F64, generator=generator)
    return base + 0.5 * torch.randn(num_samples, num_views, *shape, dtype=F64, generator=generator)


def scalars(model, views, probes=None, **arguments):
    is_exact = probes is None
    probes = torch.eye(NUM_OUTPUTS, dtype=F64) if is_exact else probes.to(F64)
    trace = trace_network(model, views.flatten(0, 1))
    return covariance_scalars(trace, probes, num_views=views.shape[1], is_exact=is_exact, **arguments)


def dense_scalars(model, views, name, estimator):
    k = connections_loop(model, views, name)
    signal = unbiased_loop(k) if estimator == "unbiased" else plugin_loop(k)
    augmentation = augmentation_loop(k, unbiased=estimator == "unbiased")
    weight = model.get_submodule(name).weight.detach().reshape(-1)
    ratio = signal.trace() / (signal.trace() + augmentation.trace())
    growth = sum(weight[p] * signal[p] @ weight for p in range(len(weight))) / weight.square().sum()
    return {"trace": signal.trace(), "signal_ratio": ratio.clamp(0, 1), "growth_rate": growth}


@pytest.mark.parametrize(("build", "shape"), CASES)
@pytest.mark.parametrize("estimator", ["plugin", "unbiased"])
def test_all_unit_probes_equal_the_dense_operator(build, shape, estimator):
    model, views = build(), draw_views(shape)
    found = scalars(model, views, estimator=estimator)
    assert set(found) == {n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    for name, values in found.items():
        expected = {key: float(v) for key, v in dense_scalars(model, views, name, estimator).items()}
        assert {key: float(getattr(values, key)) for key in expected} == pytest.approx(expected, rel=1e-10)
        assert values.trace_stderr == 0


def test_the_estimators_differ():
    model, views = mlp(), draw_views((5,))
    plugin, unbiased = scalars(model, views)["0"], scalars(model, views, estimator="unbiased")["0"]
    for one, other in zip(plugin[:1] + plugin[2:], unbiased[:1] + unbiased[2:], strict=True):
        assert abs(one - other) > 0.01 * abs(one)


@pytest.mark.parametrize("estimator", ["plugin", "unbiased"])
def test_random_probes_are_unbiased_and_know_their_error(estimator):
    model, views = mlp(), draw_views((5,))
    exact = scalars(model, views, estimator=estimator)["0"]
    generator = torch.Generator().manual_seed(0)
    trace = trace_network(model, views.flatten(0, 1))
    draws = []
    for _ in range(300):
        probes = rademacher_probes(3, NUM_OUTPUTS, generator=generator).double()
        found = covariance_scalars(trace, probes, num_views=3, is_exact=False, estimator=estimator)
        draws.append(torch.stack(found["0"]))
    draws = torch.stack(draws)  # columns as in CovarianceScalars
    for column, value in ((0, exact.trace), (3, exact.growth_rate)):
        assert abs(draws[:, column].mean() - value) < 4 * draws[:, column].std() / 300**0.5
    # the squared standard error is an unbiased estimate of the variance between draws
    ratio = draws[:, 1].square().mean().sqrt() / draws[:, 0].std()
    assert 0.8 < ratio < 1.25


def test_without_augmentation_all_is_signal_and_without_samples_none():
    model, views = mlp(), draw_views((5,), num_views=1)
    same = views.expand(-1, 2, -1).contiguous()
    assert scalars(model, same)["0"].signal_ratio == pytest.approx(1.0)
    assert scalars(model, same, estimator="unbiased")["0"].signal_ratio == pytest.approx(1.0)
    swapped = same.transpose(0, 1).contiguous()[
        :, :2
    ]  # the same two samples as the views of each: no difference
    values = scalars(model, swapped)["0"]
    assert values.trace == pytest.approx(0, abs=1e-12)
    assert values.signal_ratio == pytest.approx(0, abs=1e-12)
    assert scalars(model, swapped, estimator="unbiased")["0"].trace < 0  # an honest estimate of zero


def test_dead_layers_give_zeros_and_no_nan():
    model = mlp()
    with torch.no_grad():
        model[2].weight.zero_()
    for values in scalars(model, draw_views((5,))).values():
        assert torch.stack(values).isfinite().all()
    assert scalars(model, draw_views((5,)))["0"].trace == 0


def on_rank(rank, world_size):
    views = draw_views((2, 6, 6), num_samples=7)
    own = views[:4] if rank == 0 else views[4:] + 0.0
    probes = rademacher_probes(4, NUM_OUTPUTS, generator=torch.Generator().manual_seed(3))
    results = {}
    for estimator in ("plugin", "unbiased"):
        for name, values in scalars(convnet(), own, probes, estimator=estimator, all_sum=all_sum).items():
            alone = scalars(convnet(), own, probes, estimator=estimator)[name]
            results[estimator, name] = (torch.stack(values), torch.stack(alone))
    return results


@pytest.mark.ddp
def test_uneven_ranks_equal_the_whole():
    ranks = run_ranks(on_rank, 2)
    views = draw_views((2, 6, 6), num_samples=7)
    probes = rademacher_probes(4, NUM_OUTPUTS, generator=torch.Generator().manual_seed(3))
    for estimator in ("plugin", "unbiased"):
        for name, values in scalars(convnet(), views, probes, estimator=estimator).items():
            for found in ranks:
                together, alone = found[estimator, name]
                torch.testing.assert_close(together, torch.stack(values), rtol=1e-10, atol=1e-14)
                assert not torch.allclose(alone, together, rtol=1e-2)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (
            torch.randn(4, 1, 5, dtype=F64),
            "Expected at least 2 views of at least 2 samples, got 1 views of 4",
        ),
        (
            torch.randn(1, 2, 5, dtype=F64),
            "Expected at least 2 views of at least 2 samples, got 2 views of 1",
        ),
    ],
)
def test_rejects_too_few(views, message):
    with pytest.raises(ValueError, match=message):
        scalars(mlp(), views)


def test_rejects_an_unknown_estimator():
    with pytest.raises(ValueError, match="Expected `estimator` plugin or unbiased, got 'jackknife'"):
        scalars(mlp(), draw_views((5,)), estimator="jackknife")
