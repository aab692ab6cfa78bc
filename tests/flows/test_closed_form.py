"""One output in closed form: against scipy over many problems, at the edges, and where it ends (Theorem 3)."""

import math

import pytest
import torch
from torch.testing import assert_close

from flows.oracles import scipy_path
from lightning_ssl_theory.flows import closed_form_flow, grassmann_flow, limit_point

TIMES = torch.tensor([0.0, 0.01, 0.2, 0.7, 1.5], dtype=torch.float64)
NORMS = [1.0, 1e-8, 0.5, 0.9, 0.05]
SIGNS = ["mixed", "positive", "negative", "with zero"]


def problem(index):
    """Random directions, five norms, four kinds of spectra within [-1, 1], width 3 to 12."""
    draws = torch.Generator().manual_seed(index)
    width = 3 + index % 10
    eigenvalues = 2 * torch.rand(width, generator=draws, dtype=torch.float64) - 1
    sign = SIGNS[index % 4]
    if sign == "positive":
        eigenvalues = eigenvalues.abs()
    elif sign == "negative":
        eigenvalues = -eigenvalues.abs()
    elif sign == "with zero":
        eigenvalues = eigenvalues.abs()
        eigenvalues[0] = 0
    direction = torch.randn(1, width, generator=draws, dtype=torch.float64)
    return NORMS[index % 5] * direction / direction.norm(), eigenvalues


@pytest.mark.parametrize("index", range(100))
def test_equals_scipy(index):
    q0, eigenvalues = problem(index)
    found = closed_form_flow(q0, eigenvalues, TIMES)
    assert_close(found, scipy_path(q0, eigenvalues, TIMES, "grassmann"), rtol=0, atol=1e-9)


def test_by_hand():
    """On the sphere theta = t: q has the direction of q0 e^{-2tL}."""
    q0, eigenvalues = torch.tensor([[0.6, -0.8]], dtype=torch.float64), torch.tensor([-1.0, 1.0])
    path = closed_form_flow(q0, eigenvalues, TIMES)[:, 0]
    expected = torch.stack([0.6 * (2 * TIMES).exp(), -0.8 * (-2 * TIMES).exp()], dim=1)
    assert_close(path, expected / expected.norm(dim=1, keepdim=True), rtol=0, atol=1e-13)


def test_one_eigenvalue_by_hand():
    """d = 1: u' = -8 lambda u (1 - u), the logistic equation."""
    for eigenvalue in (-0.7, 0.7):
        u0 = 0.36
        odds = u0 / (1 - u0) * (-8 * eigenvalue * TIMES).exp()
        path = closed_form_flow(
            torch.tensor([[-0.6]], dtype=torch.float64),
            torch.tensor([eigenvalue], dtype=torch.float64),
            TIMES,
        )
        assert_close(path[:, 0, 0], -(odds / (1 + odds)).sqrt(), rtol=0, atol=1e-13)


def test_no_overflow():
    """Times and scales at which e^{8 theta m} and e^{-4 theta L} are no float64 numbers."""
    eigenvalues = torch.tensor([-300.0, -1.0, 0.0, 40.0], dtype=torch.float64)
    q0 = torch.tensor([[1e-9, 0.3, 0.3, 0.3]], dtype=torch.float64)
    times = torch.tensor([0.0, 1e-6, 1.0, 1e4])
    path = closed_form_flow(q0, eigenvalues, times)[:, 0]
    assert path.isfinite().all()
    assert_close(path[0], q0[0], rtol=0, atol=1e-15)
    assert_close(path[2:], torch.eye(4, dtype=torch.float64)[:1].expand(2, 4), rtol=0, atol=1e-12)
    vanishing = closed_form_flow(q0, eigenvalues.abs() + 1, times)[:, 0]
    assert_close(vanishing[-1], torch.zeros(4, dtype=torch.float64), rtol=0, atol=0)
    tiny = closed_form_flow(1e-200 * q0, eigenvalues, times)[:, 0]
    assert tiny.isfinite().all()


def test_batches_and_edges():
    q0, eigenvalues = zip(*(problem(index) for index in (0, 10, 20)), strict=True)
    batch = torch.stack(q0).view(3, 1, 1, 3)
    found = closed_form_flow(batch, eigenvalues[0], TIMES.flip(0))
    assert found.shape == (3, 1, 5, 1, 3)
    for row, single in zip(found[:, 0], q0, strict=True):
        assert_close(row.flip(0), closed_form_flow(single, eigenvalues[0], TIMES), rtol=0, atol=1e-14)
    assert closed_form_flow(torch.zeros(1, 3), eigenvalues[0], TIMES).eq(0).all()
    zero_spectrum = closed_form_flow(q0[0], torch.zeros(3), TIMES)
    assert_close(zero_spectrum, q0[0].expand(5, 1, 3), rtol=0, atol=1e-14)
    assert closed_form_flow(q0[0], eigenvalues[0], torch.zeros(0)).shape == (0, 1, 3)


LONG = torch.tensor([400.0], dtype=torch.float64)


def ends_at(q0, eigenvalues, expected, tolerance=1e-9):
    q0, eigenvalues, expected = (torch.tensor(x, dtype=torch.float64) for x in (q0, eigenvalues, expected))
    assert_close(closed_form_flow(q0[None], eigenvalues, LONG)[0, 0], expected, rtol=0, atol=tolerance)
    assert_close(limit_point(q0[None], eigenvalues)[0], expected, rtol=0, atol=1e-14)


def test_theorem_3_positive_eigenvalues():
    ends_at([0.3, -0.4, 0.5], [0.5, 1.0, 2.0], [0.0, 0.0, 0.0])
    ends_at([0.48, -0.6, 0.64], [0.5, 1.0, 2.0], [1.0, 0.0, 0.0])  # on the sphere, which is never left


def test_theorem_3_a_negative_eigenvalue():
    ends_at([0.1, -0.4, 0.5], [-0.5, 0.2, 2.0], [1.0, 0.0, 0.0])
    ends_at([-0.1, -0.4, 0.5], [-0.5, 0.2, 2.0], [-1.0, 0.0, 0.0])
    ends_at([0.3, -0.4, 0.5], [-0.5, -0.5, 2.0], [0.6, -0.8, 0.0])  # a lowest eigenspace of dimension two
    ends_at([0.48, -0.6, 0.64], [-0.5, 0.2, 2.0], [1.0, 0.0, 0.0])


def test_theorem_3_lowest_eigenvalue_zero():
    mass = 0.25
    square = 2 * mass / (mass + math.sqrt(mass**2 + 4 * (1 - 0.5)))
    ends_at([0.3, -0.4, 0.5], [0.0, 0.0, 2.0], [0.6 * square**0.5, -0.8 * square**0.5, 0.0])
    ends_at([0.48, -0.6, 0.64], [0.0, 1.0, 2.0], [1.0, 0.0, 0.0])


def test_theorem_3_needs_a_component_on_the_lowest_eigenspace():
    ends_at([0.0, -0.4, 0.5], [-0.5, -0.2, 2.0], [0.0, -1.0, 0.0])
    ends_at([0.0, -0.4, 0.5], [-0.5, 0.2, 2.0], [0.0, 0.0, 0.0])
    ends_at([0.0, 0.0, 0.0], [-0.5, 0.2, 2.0], [0.0, 0.0, 0.0])


def test_limits_of_many_problems():
    for index in range(20):
        q0, eigenvalues = problem(index)
        if NORMS[index % 5] == 1e-8 or float(eigenvalues.sort().values.diff().min()) < 0.01:
            continue
        late = closed_form_flow(q0, eigenvalues, torch.tensor([1e6]))[0]
        assert_close(late, limit_point(q0, eigenvalues), rtol=0, atol=1e-8)


def test_limit_of_a_batch():
    q0 = torch.tensor([[[0.3, 0.4]], [[0.0, 0.4]], [[0.6, 0.8]]], dtype=torch.float64)
    assert limit_point(q0, torch.tensor([1.0, 2.0]))[:, 0].tolist() == [[0, 0], [0, 0], [1, 0]]


@pytest.mark.parametrize(
    "function", [lambda q: closed_form_flow(q, torch.ones(3), TIMES), lambda q: limit_point(q, torch.ones(3))]
)
def test_rejects_several_outputs(function):
    with pytest.raises(ValueError, match=r"one output, shape \(\*, 1, d\), got \(2, 3\); use grassmann_flow"):
        function(torch.zeros(2, 3))


def test_agrees_with_the_flow_by_adaptive_steps():
    q0, eigenvalues = problem(2)
    assert_close(
        closed_form_flow(q0, eigenvalues, TIMES), grassmann_flow(q0, eigenvalues, TIMES), rtol=0, atol=1e-10
    )
