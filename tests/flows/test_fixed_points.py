"""Fixed points: the velocity vanishes there, the rates are the Jacobian's eigenvalues, one point is stable."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from flows.oracles import FLOWS, orthonormal
from lightning_ssl_theory import flows
from lightning_ssl_theory.flows import fixed_point_rates, fixed_points, flow_loss, stable_point

EIGENVALUES = torch.tensor([-1.3, -0.6, 0.4, 0.9], dtype=torch.float64)


def outputs_at(chosen, num_outputs, seed=0):
    q = torch.zeros(num_outputs, 4, dtype=torch.float64)
    q[range(len(chosen)), list(chosen)] = 1
    return orthonormal(num_outputs, num_outputs, torch.Generator().manual_seed(seed)) @ q


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("num_outputs", [1, 2, 3])
def test_rates_are_the_eigenvalues_of_the_jacobian(flow, num_outputs):
    velocity = getattr(flows, f"{flow}_velocity")
    for chosen in fixed_points(4, num_outputs):
        point = outputs_at(chosen, num_outputs)
        assert_close(velocity(point, EIGENVALUES), torch.zeros_like(point), rtol=0, atol=1e-14)
        jacobian = torch.autograd.functional.jacobian(lambda q: velocity(q, EIGENVALUES), point)
        expected = torch.linalg.eigvals(jacobian.reshape(point.numel(), -1))
        assert float(expected.imag.abs().max()) < 1e-6
        rates = fixed_point_rates(EIGENVALUES, chosen, num_outputs, flow=flow)
        assert_close(rates, expected.real.sort(descending=True).values, rtol=0, atol=1e-6)
        is_stable = bool((rates <= 1e-12).all())
        assert is_stable == (set(chosen) == set(stable_point(EIGENVALUES, num_outputs)))


def test_number_of_points():
    assert len(list(fixed_points(5, 3))) == sum(math.comb(5, k) for k in range(4))


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("num_outputs", [1, 2, 3])
def test_generic_paths_end_at_the_stable_point_which_is_the_least_loss(flow, num_outputs):
    draws = torch.Generator().manual_seed(3)
    q0 = orthonormal(7, num_outputs, draws).mT @ orthonormal(7, 4, draws)
    end = getattr(flows, f"{flow}_flow")(q0, EIGENVALUES, torch.tensor([30.0]))[0]
    stable = stable_point(EIGENVALUES, num_outputs)
    projector = torch.zeros(4, dtype=torch.float64)
    projector[list(stable)] = 1
    assert_close(end.mT @ end, projector.diag(), rtol=0, atol=1e-7)
    losses = [
        sum(EIGENVALUES[k].item() for k in chosen)
        for size in range(num_outputs + 1)
        for chosen in itertools.combinations(range(4), size)
    ]
    assert flow_loss(end, EIGENVALUES).item() == pytest.approx(min(losses), abs=1e-6)


def test_rejects():
    for chosen in ((0, 0), (4,), (-1,), (0, 1, 2)):
        with pytest.raises(
            ValueError, match="Expected `chosen` to hold at most 2 different indices below 4, got"
        ):
            fixed_point_rates(EIGENVALUES, chosen, 2)
    with pytest.raises(ValueError, match="one of grassmann, stiefel, canonical, got 'qr'"):
        fixed_point_rates(EIGENVALUES, (), 2, flow="qr")
    with pytest.raises(ValueError, match="Expected `num_outputs` of at least 1"):
        stable_point(EIGENVALUES, 0)
