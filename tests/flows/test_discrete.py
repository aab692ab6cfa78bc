"""Euler steps of the flows: the update by formula, first order, and steps that are too long."""

import pytest
import torch
from torch.testing import assert_close

from flows.oracles import FLOWS, loop_velocity, orthonormal
from lightning_ssl_theory import flows
from lightning_ssl_theory.flows import discrete_flow, grassmann_flow

EIGENVALUES = torch.tensor([-1.3, -0.6, 0.4, 0.9], dtype=torch.float64)


def start():
    draws = torch.Generator().manual_seed(0)
    return orthonormal(6, 2, draws).mT @ orthonormal(6, 4, draws)


@pytest.mark.parametrize("flow", FLOWS)
def test_steps_by_loop(flow):
    found = discrete_flow(
        start(), EIGENVALUES, lr=0.1, num_steps=3, velocity=getattr(flows, f"{flow}_velocity")
    )
    q = start()
    for step in range(4):
        assert_close(found[step], q, rtol=0, atol=1e-14)
        q = q + 0.1 * torch.tensor(loop_velocity(q.tolist(), EIGENVALUES.tolist(), flow), dtype=torch.float64)


def test_first_order_and_batched():
    exact = grassmann_flow(start(), EIGENVALUES, torch.tensor([0.5]))[0]
    batch = torch.stack([start(), 0.1 * start()])
    errors = []
    for steps in (100, 200, 400):
        found = discrete_flow(batch, EIGENVALUES, lr=0.5 / steps, num_steps=steps)
        assert found.shape == (2, steps + 1, 2, 4)
        errors.append(float((found[0, -1] - exact).norm()))
    assert 1.8 < errors[0] / errors[1] < 2.2
    assert 1.8 < errors[1] / errors[2] < 2.2


def test_rejects():
    with pytest.raises(ValueError, match=r"Expected `lr` > 0, got -0\.1"):
        discrete_flow(start(), EIGENVALUES, lr=-0.1, num_steps=1)
    with pytest.raises(ValueError, match="Expected `num_steps` of at least 0, got -1; pass how many"):
        discrete_flow(start(), EIGENVALUES, lr=0.1, num_steps=-1)
    with pytest.raises(
        ValueError, match=r"outputs to stay finite, got lr=10 with eigenvalues up to 1\.3; lower"
    ):
        discrete_flow(start(), EIGENVALUES, lr=10.0, num_steps=50)
