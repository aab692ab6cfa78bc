"""Operators of latents against dense ones, from per-sample gradients one sample and output at a time."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.networks import LatentTreeNetwork
from lightning_ssl_theory.operators import (
    ConnectionSums,
    connection_sums,
    covariance_operators,
    latent_operator_norms,
    trace_network,
)

LEVELS = ["level_1", "level_2"]


def setup(num_samples=9, **arguments):
    network = LatentTreeNetwork(2, group_size=3, **arguments).double()
    x = torch.randint(0, 2, (num_samples, 4)).double()
    return network, x, torch.arange(num_samples) % 3 > 0


def dense_operators(network, x, roots, level):
    """OP_mu = V_{z0}[E[K | z0]] of every latent, (P_mu, P_mu) each, by autograd on one output of one sample."""
    layer = getattr(network, level)
    connections = torch.stack(
        [
            torch.stack(
                [
                    torch.autograd.grad(network(x[i : i + 1])[0, u], layer.weight)[0].reshape(
                        layer.groups, -1
                    )
                    for u in range(3)
                ],
                dim=2,
            )
            for i in range(len(x))
        ]
    )  # (N, M, P_mu, n_L)
    share = roots.double().mean()
    mean = connections.mean(0)
    operators = []
    for mu in range(layer.groups):
        operator = 0
        for value, weight in ((False, 1 - share), (True, share)):
            difference = connections[roots == value].mean(0)[mu] - mean[mu]
            operator = operator + weight * difference @ difference.mT
        operators.append(operator)
    return operators


@pytest.mark.parametrize("bias", [True, False])
def test_matches_dense(bias):
    network, x, roots = setup(bias=bias)
    sums = connection_sums(trace_network(network, x, LEVELS), roots.long())
    for level in LEVELS:
        norms = latent_operator_norms(sums[level])
        dense = dense_operators(network, x, roots, level)
        assert_close(norms.trace, torch.stack([operator.trace() for operator in dense]))
        assert_close(norms.frobenius_norm, torch.stack([operator.norm() for operator in dense]))


def test_batches_add_up():
    network, x, roots = setup()
    whole = connection_sums(trace_network(network, x, LEVELS), roots)
    parts = [
        connection_sums(trace_network(network, x[rows], LEVELS), roots[rows])
        for rows in (slice(0, 4), slice(4, 9))
    ]
    for level in LEVELS:
        assert_close(whole[level].total, parts[0][level].total + parts[1][level].total)
        assert_close(whole[level].samples, torch.tensor([3.0, 6.0], dtype=torch.float64))


def test_level_sum_of_traces_is_the_covariance_operators_trace():
    """With one sample for either root OP over samples is OP over roots, and a level's operator holds its latents'."""
    network, x, _ = setup(num_samples=2)
    norms = connection_sums(trace_network(network, x, LEVELS), torch.tensor([0, 1]))
    operators = covariance_operators(network, x.unsqueeze(1), LEVELS)
    for level in LEVELS:
        assert_close(latent_operator_norms(norms[level]).trace.sum(), operators[level].trace())


def test_a_linear_layer_is_one_latent():
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x, roots = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 2
    sums = connection_sums(trace_network(network, x, ["0"]), roots)["0"]
    assert sums.total.shape == (2, 1, 2, 12)
    assert latent_operator_norms(sums).trace > 0


def test_inference_mode():
    network, x, roots = setup()
    expected = connection_sums(trace_network(network, x, LEVELS), roots)
    with torch.inference_mode():
        found = connection_sums(trace_network(network, x.clone(), LEVELS), roots.clone())
    for level in LEVELS:
        assert_close(found[level].total, expected[level].total)


def test_rejected():
    network, x, roots = setup()
    trace = trace_network(network, x, LEVELS)
    with pytest.raises(ValueError, match=r"Expected `roots` of shape \(9,\), got \(8,\)"):
        connection_sums(trace, roots[:8])
    convolution = nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 2), nn.Flatten()).double()
    with pytest.raises(ValueError, match=r"Expected layer '1' to put out \(N, M G\), got \(9, 2, 3\)"):
        connection_sums(trace_network(convolution, x, ["1"]), roots)
    with pytest.raises(ValueError, match=r"Expected samples of both roots, got \[2.0, 0.0\] of 0 and 1"):
        latent_operator_norms(ConnectionSums(torch.tensor([2.0, 0.0]), torch.zeros(2, 1, 1, 1)))
