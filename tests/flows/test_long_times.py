"""Long times: orthonormal outputs stay so, and every flow goes where arithmetic of a thousand digits says."""

import importlib
from types import SimpleNamespace

import mpmath
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flows.oracles import FLOWS, orthonormal
from lightning_ssl_theory import flows
from lightning_ssl_theory.flows import (
    canonical_closed_form,
    closed_form_flow,
    limit_point,
    oja_flow,
)

FLOW = {name: getattr(flows, f"{name}_flow") for name in FLOWS}
ONE_FLOW = [
    name if name == "canonical" else pytest.param(name, marks=pytest.mark.all_cases) for name in FLOWS
]
RATES = {"grassmann": 2, "stiefel": 3, "canonical": 4}
TIMES = torch.tensor([4.0, 12.0, 20.0, 100.0, 1000.0], dtype=torch.float64)
SPECTRA = {
    "mixed": [-1.3, -0.6, -0.2, 0.4, 0.9, 1.7],
    "positive": [1.3, 0.6, 0.2, 0.4, 0.9, 1.7],
    "negative": [-1.3, -0.6, -0.2, -0.4, -0.9, -1.7],
    "repeated": [-0.5, -0.5, -0.5, 0.8, 0.8, 0.8],
    "zeros": [0.0, 0.0, 0.3, 0.6, 1.2, 1.2],
    "all zero": [0.0] * 6,
}


def spectrum(name: str) -> Tensor:
    return torch.tensor(SPECTRA[name], dtype=torch.float64)


def generic(num_outputs: int, seed: int = 0) -> Tensor:
    """Outputs of random orthonormal weights; hidden width 12 > d + z, so that no singular value is 1."""
    draws = torch.Generator().manual_seed(seed)
    return orthonormal(12, num_outputs, draws).mT @ orthonormal(12, 6, draws)


def on_the_sphere(num_outputs: int, seed: int = 0) -> Tensor:
    return orthonormal(6, num_outputs, torch.Generator().manual_seed(seed)).mT


def gram(path: Tensor) -> Tensor:
    return path.mT @ path


def exact_gram(q0: list[list[float]], lam: list[float], time: float, rate: int, *, is_frame: bool) -> Tensor:
    """q^T q = E q0^T G^-1 q0 E, E = e^{-rate t Lambda}: the canonical flow, or Oja's where q0 q0^T = I."""
    spread = max(*lam, 0) - min(*lam, 0)
    with mpmath.workdps(60 + int(rate * time * spread)):  # twice the digits of e^{-2 rate t spread}
        start = mpmath.matrix(q0)
        decay = mpmath.diag([mpmath.exp(-rate * mpmath.mpf(time) * value) for value in map(mpmath.mpf, lam)])
        middle = start * decay * decay * start.T
        if not is_frame:
            middle += mpmath.eye(len(q0)) - start * start.T
        found = decay * start.T * mpmath.inverse(middle) * start * decay
        return torch.tensor([[float(x) for x in row] for row in found.tolist()], dtype=torch.float64)


def test_oracle_by_hand():
    # one output and one eigenvalue: u' = -8 lambda u (1 - u), odds u / (1 - u) fall as e^{-8 lambda t}
    odds = torch.tensor(0.36 / 0.64).double() * torch.tensor(-8 * 0.5 * 0.7).double().exp()
    assert_close(
        exact_gram([[0.6]], [0.5], 0.7, 4, is_frame=False), (odds / (1 + odds)).view(1, 1), rtol=1e-7, atol=0
    )
    assert exact_gram([[1.0]], [0.5], 0.7, 4, is_frame=True).item() == 1.0


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize(
    "num_outputs", [3, *(pytest.param(count, marks=pytest.mark.all_cases) for count in (1, 6))]
)
@pytest.mark.parametrize("flow", FLOWS)
def test_orthonormal_outputs_stay_orthonormal_and_span_what_oja_says(flow, num_outputs, name):
    q0, eigenvalues = on_the_sphere(num_outputs), spectrum(name)
    paths = [FLOW[flow](q0, eigenvalues, TIMES), oja_flow(q0, eigenvalues, TIMES, flow=flow)]
    if flow == "canonical":
        paths.append(canonical_closed_form(q0, eigenvalues, TIMES))
    expected = [
        exact_gram(q0.tolist(), SPECTRA[name], time, RATES[flow], is_frame=True)
        for time in (4.0, 12.0, 100.0)
    ]
    for path in paths:
        identity = torch.eye(num_outputs, dtype=torch.float64)
        assert_close(path @ path.mT, identity.expand(5, -1, -1), rtol=0, atol=1e-14)
        assert_close(gram(path)[[0, 1, 3]], torch.stack(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_canonical_flow_of_any_outputs(num_outputs, name):
    q0, eigenvalues = generic(num_outputs), spectrum(name)
    times = torch.tensor([4.0, 12.0, 100.0])
    expected = [exact_gram(q0.tolist(), SPECTRA[name], t, 4, is_frame=False) for t in times.tolist()]
    for function in (FLOW["canonical"], canonical_closed_form):
        found = gram(function(q0, eigenvalues, times))
        assert_close(found, torch.stack(expected), rtol=0, atol=1e-10)


# Theorem 3 by hand, one output: eigenvalues, q0, limit; for lambda = 0 the two flows that share it.
MASS = 0.25
SQUARE = 2 * MASS / (MASS + (MASS**2 + 4 * 0.5) ** 0.5)
LIMITS = [
    pytest.param([0.5, 1.0, 2.0], [0.3, -0.4, 0.5], [0.0, 0.0, 0.0], FLOWS, id="positive"),
    pytest.param([0.5, 1.0, 2.0], [0.48, -0.6, 0.64], [1.0, 0.0, 0.0], FLOWS, id="positive, on the sphere"),
    pytest.param([-0.5, 0.2, 2.0], [-0.1, -0.4, 0.5], [-1.0, 0.0, 0.0], FLOWS, id="negative"),
    pytest.param([-0.5, -0.5, 2.0], [0.3, -0.4, 0.5], [0.6, -0.8, 0.0], FLOWS, id="negative, repeated"),
    pytest.param([-0.5, -0.2, 2.0], [0.0, -0.4, 0.5], [0.0, -1.0, 0.0], FLOWS, id="orthogonal to the lowest"),
    pytest.param([-0.5, 0.2, 2.0], [0.0, -0.4, 0.5], [0.0, 0.0, 0.0], FLOWS, id="orthogonal to the negative"),
    pytest.param([-0.5, 0.2, 2.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], FLOWS, id="nothing"),
    pytest.param(
        [0.0, 0.0, 2.0],
        [0.3, -0.4, 0.5],
        [0.6 * SQUARE**0.5, -0.8 * SQUARE**0.5, 0.0],
        ["grassmann"],
        id="zero",
    ),
    pytest.param([0.0, 1.0, 2.0], [0.48, -0.6, 0.64], [1.0, 0.0, 0.0], FLOWS, id="zero, on the sphere"),
]


@pytest.mark.parametrize(("eigenvalues", "q0", "limit", "names"), LIMITS)
def test_theorem_3(eigenvalues, q0, limit, names):
    eigenvalues, q0, limit = (torch.tensor(x, dtype=torch.float64) for x in (eigenvalues, q0, limit))
    late = torch.tensor([100.0, 1e3, 1e9], dtype=torch.float64)
    functions = [FLOW[name] for name in names] + [closed_form_flow] * ("grassmann" in names)
    functions += [canonical_closed_form] * ("canonical" in names)
    for function in functions:
        assert_close(function(q0[None], eigenvalues, late)[:, 0], limit.expand(3, 3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("num_outputs", [2, 3, 4])
@pytest.mark.parametrize("name", ["mixed", "positive", "negative"])
def test_several_outputs_end_on_the_lowest_eigenvectors(flow, num_outputs, name):
    eigenvalues = spectrum(name)
    lowest = eigenvalues.argsort()[: min(num_outputs, int((eigenvalues < 0).sum()))]
    projector = torch.zeros(6, dtype=torch.float64).index_fill_(0, lowest, 1.0).diag()
    late = FLOW[flow](generic(num_outputs), eigenvalues, torch.tensor([100.0, 1e3, 1e6]))
    assert_close(gram(late), projector.expand(3, 6, 6), rtol=0, atol=1e-12)


@pytest.mark.parametrize("flow", FLOWS)
def test_eigenvalue_zero_with_several_outputs(flow):
    """The rows settle within the eigenspace of 0, and inside the unit ball."""
    path = FLOW[flow](generic(3), spectrum("zeros"), torch.tensor([100.0, 1e3]))
    assert_close(path[0], path[1], rtol=0, atol=1e-12)
    assert path[1, :, 2:].abs().max() < 1e-12
    sizes = torch.linalg.svdvals(path[1])
    assert 0.1 < sizes[1] <= sizes[0] < 0.999
    assert sizes[2] < 1e-12


@pytest.mark.parametrize("flow", FLOWS)
def test_as_many_outputs_as_inputs_do_not_move(flow):
    q0 = on_the_sphere(6)
    assert_close(FLOW[flow](q0, spectrum("mixed"), TIMES), q0.expand(5, 6, 6), rtol=0, atol=1e-14)


@pytest.mark.parametrize("flow", FLOWS)
def test_some_outputs_on_the_sphere_and_some_inside(flow):
    """A singular value that is 1 stays 1, the others vanish where all eigenvalues are positive."""
    q0 = torch.tensor([[0.6, 0.8, 0.0, 0.0], [0.0, 0.0, 0.3, 0.4]], dtype=torch.float64)
    eigenvalues = [0.2, 1.0, 0.5, 2.0]
    mixed = orthonormal(2, 2, torch.Generator().manual_seed(0)) @ q0
    path = FLOW[flow](mixed, torch.tensor(eigenvalues, dtype=torch.float64), TIMES)
    assert_close(torch.linalg.svdvals(path)[:, 0], torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-14)
    assert_close(gram(path[-1]), torch.tensor([1.0, 0, 0, 0]).double().diag(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("flow", FLOWS)
def test_a_start_just_inside_leaves_the_sphere_when_it_should(flow):
    """1 - ||q||^2 grows from 1e-9 at its own rate: for d = 1, odds u / (1 - u) fall as e^{-8 lambda t}."""
    gap, times = 1e-9, torch.linspace(1.0, 6.0, 6, dtype=torch.float64)
    q0 = torch.tensor([[(1 - gap) ** 0.5]], dtype=torch.float64)
    u0 = q0.square().item()
    odds = u0 / (1 - u0) * (-8 * 0.7 * times).exp()
    path = FLOW[flow](q0, torch.tensor([0.7]), times)
    # beside 1e-9, the rounding of u0 is 1e-7
    assert_close(path[:, 0, 0], (odds / (1 + odds)).sqrt(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("size", "tolerance"), [(1e-12, 1e-7), (1e-50, 1e-4)])
@pytest.mark.parametrize("flow", FLOWS)
def test_a_tiny_component_on_the_lowest_eigenvector_grows_at_its_own_time(flow, size, tolerance):
    q0 = torch.tensor([[size, 0.8, 0.6]], dtype=torch.float64)
    eigenvalues = [-0.9, -0.3, 1.1]
    turning = -mpmath.log(size) / (RATES[flow] * 0.6)  # then both components are of order one
    times = [float(turning) + shift for shift in (-2.0, 0.0, 1.0)]
    found = FLOW[flow](
        q0, torch.tensor(eigenvalues, dtype=torch.float64), torch.tensor(times, dtype=torch.float64)
    )
    for path, time in zip(found, times, strict=True):
        expected = exact_gram([[size, 0.8, 0.6]], eigenvalues, time, RATES[flow], is_frame=True)
        assert_close(gram(path)[0, 0], expected[0, 0], rtol=tolerance, atol=1e-9)


@pytest.mark.parametrize("flow", FLOWS)
def test_columns_of_zeros_stay_so(flow):
    q0 = on_the_sphere(2)
    q0[:, 0] = 0  # the lowest eigenvector, and then a rotation of what is left
    q0 = torch.linalg.qr(q0.mT)[0].mT.clone()
    q0[:, 0] = 0
    for function in (FLOW[flow], lambda *given: oja_flow(*given, flow=flow), canonical_closed_form):
        path = function(q0, spectrum("mixed"), TIMES)
        assert path[..., 0].eq(0).all()
        assert_close(path[-1, :, 3:], torch.zeros(2, 3, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("flow", ONE_FLOW)
def test_float32_weights_on_the_sphere_stay_there(flow):
    q0 = on_the_sphere(3).float()
    for function in (FLOW[flow], lambda *given: oja_flow(*given, flow=flow)):
        path = function(q0, spectrum("positive").float(), TIMES.float())
        identity = torch.eye(3, dtype=torch.float64)
        assert_close(path @ path.mT, identity.expand(5, -1, -1), rtol=0, atol=1e-14)
    assert limit_point(q0[:1], spectrum("positive")).norm() == 1
    late = closed_form_flow(q0[:1], spectrum("positive"), TIMES)
    assert_close(late.norm(dim=-1), torch.ones(5, 1, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("flow", ONE_FLOW)
def test_times_in_any_order(flow):
    q0, eigenvalues, times = generic(2), spectrum("mixed"), torch.tensor([0.5, 4.0, 20.0]).double()
    alone = torch.cat([FLOW[flow](q0, eigenvalues, time[None]) for time in times])
    order = [2, 0, 1, 0, 2]
    assert_close(FLOW[flow](q0, eigenvalues, times[order]), alone[order], rtol=0, atol=1e-10)
    for function in (FLOW[flow], canonical_closed_form):
        path = function(q0, eigenvalues, times)
        assert_close(function(q0, eigenvalues, times[order]), path[order], rtol=0, atol=1e-10)
        assert_close(function(q0, eigenvalues, torch.zeros(3)), q0.expand(3, 2, 6), rtol=0, atol=1e-15)


@pytest.mark.parametrize("flow", ONE_FLOW)
def test_eigenvalues_of_very_different_sizes(flow):
    """Decayed columns no longer ask for short steps."""
    eigenvalues = torch.tensor([-10.0, -1.0, 0.0, 4.0], dtype=torch.float64)
    late = FLOW[flow](generic(2)[:, :4], eigenvalues, torch.tensor([1e4]))[0]
    assert_close(gram(late), torch.tensor([1.0, 1.0, 0.0, 0.0]).double().diag(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("flow", ONE_FLOW)
def test_eigenvalues_of_any_scale(flow):
    """Products of times and eigenvalues matter alone, up to the largest numbers."""
    q0, eigenvalues, times = generic(1), spectrum("mixed"), torch.tensor([0.0, 0.3, 1e5]).double()
    functions = [FLOW[flow], canonical_closed_form, *([closed_form_flow] if flow == "grassmann" else [])]
    for function in functions:
        path = function(q0, eigenvalues, times)
        for exponent in (-900, 990):
            scale = 2.0**exponent
            assert torch.equal(function(q0, scale * eigenvalues, times / scale), path)
        assert_close(function(q0, 1e308 * eigenvalues, torch.tensor([1.0]))[0], path[-1], rtol=0, atol=1e-12)


def test_says_what_the_solver_says(monkeypatch):
    failed = SimpleNamespace(success=False, message="Required step size is too small.")
    monkeypatch.setattr(
        importlib.import_module("lightning_ssl_theory.flows.integrate"), "solve_ivp", lambda *_, **__: failed
    )
    with pytest.raises(
        ValueError,
        match=r"the solver can follow, got 'Required step size is too small\.'; ask for shorter `times`, or",
    ):
        flows.grassmann_flow(generic(2), spectrum("mixed"), torch.tensor([1.0]))


@pytest.mark.parametrize("module", ["oja", "integrate"])
def test_too_long_a_way_is_refused_in_a_sentence(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eigenvalues that nearly agree part after a time for which no number of steps would do."""
    monkeypatch.setattr(importlib.import_module("lightning_ssl_theory.flows.oja"), "_MAX_STEPS", 50)
    monkeypatch.setattr(importlib.import_module("lightning_ssl_theory.flows.integrate"), "_MAX_PIECES", 2)
    q0, far = orthonormal(4, 2, torch.Generator()).mT, torch.tensor([1e9], dtype=torch.float64)
    eigenvalues = torch.tensor([-2.0, -1.0, -1.0 + 1e-9, 1.0], dtype=torch.float64)
    flow = {"oja": oja_flow, "integrate": FLOW["grassmann"]}[module]
    with pytest.raises(
        ValueError, match=r"Expected `times` that a flow reaches in .*; ask for shorter `times`"
    ):
        flow(q0 if module == "oja" else 0.7 * q0, eigenvalues, far)


def test_outputs_of_equal_eigenvalues_come_to_rest() -> None:
    eigenvalues = torch.tensor([-2.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    first, last = oja_flow(
        orthonormal(4, 2, torch.Generator()).mT, eigenvalues, torch.tensor([1e3, 1e9], dtype=torch.float64)
    )
    assert_close(last, first, rtol=0.0, atol=1e-12)
