"""The time at which one output has turned to the lowest eigenvector."""

import math

import pytest
import torch

from lightning_ssl_theory.flows import closed_form_flow, leading_time


def random_problem(seed, norm):
    draws = torch.Generator().manual_seed(seed)
    q0 = torch.randn(1, 7, generator=draws, dtype=torch.float64)
    return norm * q0 / q0.norm(), torch.randn(7, generator=draws, dtype=torch.float64)


@pytest.mark.parametrize("norm", [1.0, 0.7, 1e-6])
def test_the_flow_is_at_the_angle_at_that_time(norm):
    for seed in range(5):
        q0, eigenvalues = random_problem(seed, norm)
        time = leading_time(q0, eigenvalues, cosine=0.95)
        q = closed_form_flow(q0, eigenvalues, time[None])[0, 0]
        assert (q[eigenvalues.argmin()].abs() / q.norm()).item() == pytest.approx(0.95, abs=1e-9)


def test_by_hand():
    """d = 2 on the sphere: tan(angle) falls as e^{-2 t gap}."""
    q0, eigenvalues = torch.tensor([[0.8, 0.6]], dtype=torch.float64), torch.tensor([1.5, 0.5])
    expected = math.log((0.8 / 0.6) / math.sqrt(1 / 0.9**2 - 1)) / 2
    assert leading_time(q0, eigenvalues, cosine=0.9).item() == pytest.approx(expected, abs=1e-12)


def test_edges_and_batches():
    q0 = torch.tensor([[[0.0, 0.5]], [[0.5, 1e-9]], [[0.5, 0.0]], [[0.0, 0.0]]])
    assert leading_time(q0, torch.tensor([-1.0, 1.0])).tolist() == [math.inf, 0.0, 0.0, math.inf]
    assert leading_time(q0, torch.tensor([1.0, 1.0]))[:3].tolist() == [0.0, 0.0, 0.0]
    assert leading_time(q0[0], torch.tensor([-1.0, 1.0])).shape == ()


def test_rejects():
    for cosine in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"Expected `cosine` in \(0, 1\), got"):
            leading_time(torch.ones(1, 2) / 2, torch.ones(2), cosine=cosine)
    with pytest.raises(ValueError, match=r"one output, shape \(\*, 1, d\), got \(2, 2\)"):
        leading_time(torch.eye(2), torch.ones(2))
