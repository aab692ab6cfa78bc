"""What the plug-in and the cross-view estimator expect, by averages over many batches of a population."""

import torch
from helpers.small_networks import F64, biased_mlp
from torch.testing import assert_close

from lightning_ssl_theory.operators import covariance_operators, covariance_scalars
from lightning_ssl_theory.operators.covariance_operators import layer_connections
from lightning_ssl_theory.tracing.network_trace import trace_network

NUM_POPULATION, NUM_NOISES, NUM_SAMPLES, NUM_VIEWS = 40, 30, 4, 2
NUM_BATCHES = 20_000


def population():
    """All views of all samples: (40, 30, 5)."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(NUM_POPULATION, 1, 5, dtype=F64, generator=generator)
    return base + 0.8 * torch.randn(NUM_POPULATION, NUM_NOISES, 5, dtype=F64, generator=generator)


def connections(model, views):
    trace = trace_network(model, views.flatten(0, 1), ["2"])
    eye = torch.eye(trace.outputs.shape[1], dtype=F64)
    rows = torch.stack(list(layer_connections(trace, eye)["2"].rows()), dim=1)
    return rows.flatten(1).unflatten(0, views.shape[:2])  # (40, 30, n_L P), whose squares add up to traces


def estimates(k):
    """tr of plug-in, U and Wn for batches (T, N, A, D) of connections."""
    means = k.mean(2)
    plugin = (means - means.mean(1, keepdim=True)).square().sum(2).mean(1)
    within = (k - means[:, :, None]).square().sum((1, 2, 3)) / (NUM_SAMPLES * (NUM_VIEWS - 1))
    unbiased = plugin * NUM_SAMPLES / (NUM_SAMPLES - 1) - within / NUM_VIEWS
    return plugin, unbiased, within


def draw(num_batches, seed=1):
    """Samples and views drawn with replacement, as indices."""
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randint(NUM_POPULATION, (num_batches, NUM_SAMPLES, 1), generator=generator)
    noises = torch.randint(NUM_NOISES, (num_batches, NUM_SAMPLES, NUM_VIEWS), generator=generator)
    return samples, noises


def test_the_library_computes_these_estimates():
    model, views = biased_mlp(), population()
    samples, noises = draw(3)
    k = connections(model, views)
    for batch, expected in zip(
        views[samples, noises], zip(*estimates(k[samples, noises]), strict=True), strict=True
    ):
        for estimator, value in zip(("plugin", "unbiased"), expected[:2], strict=True):
            scalars = covariance_scalars(model, batch, ["2"], num_probes=None, estimator=estimator)["2"]
            assert_close(scalars.trace, value)
            operator = covariance_operators(model, batch, ["2"], estimator=estimator)["2"]
            assert_close(operator.trace(), value)
        noise = covariance_operators(model, batch, ["2"], estimator="unbiased", part="augmentation")["2"]
        assert_close(noise.trace(), expected[2])


def check_mean(draws, expected):
    assert abs(draws.mean() - expected) < 4 * draws.std() / len(draws) ** 0.5


def test_expectations_over_a_population():
    """E U = OP, E Wn = OP^aug, E plug-in = (1 - 1/N)(OP + OP^aug / A): THEORY 1."""
    k = connections(biased_mlp(), population())
    means = k.mean(1)
    signal = (means - means.mean(0)).square().sum(1).mean()
    noise = (k - means[:, None]).square().sum(2).mean()
    samples, noises = draw(NUM_BATCHES)
    plugin, unbiased, within = estimates(k[samples, noises])
    check_mean(unbiased, signal)
    check_mean(within, noise)
    biased = (1 - 1 / NUM_SAMPLES) * (signal + noise / NUM_VIEWS)
    check_mean(plugin, biased)
    assert abs(biased - signal) > 8 * plugin.std() / NUM_BATCHES**0.5  # so that the two can be told apart


def test_expectations_for_fixed_samples():
    """With new views of the same samples: V_x + (1 - 1/N) OP^aug / A, and (N - 1)/N U without bias."""
    k = connections(biased_mlp(), population())[:NUM_SAMPLES]
    means = k.mean(1)
    signal = (means - means.mean(0)).square().sum(1).mean()
    noise = (k - means[:, None]).square().sum(2).mean()
    _, noises = draw(NUM_BATCHES)
    plugin, unbiased, _ = estimates(k[torch.arange(NUM_SAMPLES)[None, :, None], noises])
    share = 1 - 1 / NUM_SAMPLES
    check_mean(plugin, signal + share * noise / NUM_VIEWS)
    check_mean(share * unbiased, signal)
