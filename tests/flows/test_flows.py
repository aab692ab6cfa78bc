"""Every flow against loops, scipy, descent on the weights, and the laws they share."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flows.oracles import FLOWS, descend, loop_velocity, orthonormal, scipy_path, tangent_step
from lightning_ssl_theory import flows
from lightning_ssl_theory.flows import eigenbasis, flow_loss
from lightning_ssl_theory.manifolds import polar_retraction

FLOW = {name: getattr(flows, f"{name}_flow") for name in FLOWS}
VELOCITY = {name: getattr(flows, f"{name}_velocity") for name in FLOWS}
TIMES = torch.tensor([0.0, 0.05, 0.3, 1.0], dtype=torch.float64)
EIGENVALUES = torch.tensor([-1.3, -0.6, -0.2, 0.4, 0.9, 1.7], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start(num_outputs: int = 2, num_features: int = 6, seed: int = 0) -> Tensor:
    """Outputs of random orthonormal weights of hidden width 9."""
    draws = generator(seed)
    return orthonormal(9, num_outputs, draws).mT @ orthonormal(9, num_features, draws)


def test_oracle_by_hand():
    # one output, q = (1/2, 0): s = lambda / 4, so q' = -(a/2 - b/8 - c/8) lambda, the same for all flows
    for flow in FLOWS:
        assert loop_velocity([[0.5, 0.0]], [-1.0, 1.0], flow) == [[1.5, 0.0]]


@pytest.mark.parametrize("flow", FLOWS)
def test_velocity_by_loop_and_batched(flow):
    q = torch.stack([start(3, seed=seed) for seed in range(4)]).view(2, 2, 3, 6)
    found = VELOCITY[flow](q, EIGENVALUES)
    for i, j in ((0, 0), (1, 1)):
        loop = loop_velocity(q[i, j].tolist(), EIGENVALUES.tolist(), flow)
        assert_close(found[i, j], torch.tensor(loop, dtype=torch.float64))


@pytest.mark.parametrize("flow", FLOWS)
def test_trajectory_against_scipy(flow):
    for num_outputs in (1, 2, 4):
        q0 = start(num_outputs)
        found = FLOW[flow](q0, EIGENVALUES, TIMES)
        assert found.dtype == torch.float64
        assert_close(found, scipy_path(q0, EIGENVALUES, TIMES, flow), rtol=0, atol=1e-10)


@pytest.mark.parametrize("flow", FLOWS)
def test_batches_times_and_dtypes(flow):
    q0 = torch.stack([start(seed=seed) * scale for seed, scale in enumerate((1.0, 1e-6, 0.3))])
    shuffled = TIMES[[3, 0, 2, 1, 3]]
    found = FLOW[flow](q0.view(3, 1, 2, 6), EIGENVALUES, shuffled)
    assert found.shape == (3, 1, 5, 2, 6)
    for row, single in zip(found[:, 0], q0, strict=True):
        alone = FLOW[flow](single, EIGENVALUES, TIMES)[[3, 0, 2, 1, 3]]
        assert_close(row, alone, rtol=0, atol=1e-10 * float(alone.abs().max()))
    assert_close(found[:, 0, 1], q0, rtol=0, atol=1e-15)  # t = 0
    assert_close(
        FLOW[flow](q0[0].float(), EIGENVALUES.float(), TIMES.float()),
        found[0, 0][[1, 3, 2, 0]],
        rtol=0,
        atol=1e-5,
    )
    assert_close(
        FLOW[flow](q0, EIGENVALUES, torch.zeros(2)), q0[:, None].expand(3, 2, 2, 6), rtol=0, atol=1e-15
    )
    assert FLOW[flow](q0, EIGENVALUES, torch.zeros(0)).shape == (3, 0, 2, 6)


@pytest.mark.parametrize("retraction", ["qr", "polar"])
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_descent_on_the_weights_converges_to_the_flow_at_first_order(flow, num_outputs, retraction):
    errors = _descent_errors(flow, num_outputs, lambda lr: tangent_step(flow, lr, retraction))
    _assert_first_order(errors)


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_plain_steps_with_polar_projection_follow_the_stiefel_flow_and_no_other(num_outputs):
    errors = {
        flow: _descent_errors(
            flow, num_outputs, lambda lr: lambda weight, gradient: polar_retraction(weight - lr * gradient)
        )
        for flow in FLOWS
    }
    _assert_first_order(errors["stiefel"])
    for flow in ("grassmann", "canonical"):
        assert errors[flow][-1] > 10 * errors["stiefel"][-1]


def _descent_errors(flow, num_outputs, step) -> list[float]:
    draws, time = generator(1), 0.4
    hidden, output = orthonormal(9, 6, draws), orthonormal(9, num_outputs, draws)
    basis = orthonormal(6, 6, draws)
    matrix = basis @ EIGENVALUES.diag() @ basis.mT
    expected = FLOW[flow](output.mT @ hidden @ basis, EIGENVALUES, torch.tensor([time]))[0] @ basis.mT
    return [
        float((descend(hidden, output, matrix, step(time / n), n) - expected).norm()) for n in (50, 100, 200)
    ]


def _assert_first_order(errors):
    assert 1.8 < errors[0] / errors[1] < 2.2
    assert 1.8 < errors[1] / errors[2] < 2.2
    assert errors[2] < 0.02


@pytest.mark.parametrize("flow", FLOWS)
def test_invariance_under_changes_of_basis(flow):
    """Rotated outputs rotate the path; C in another basis of the inputs leaves the outputs as they are."""
    q0, draws = start(3), generator(2)
    rotation, basis = orthonormal(3, 3, draws), orthonormal(6, 6, draws)
    path = FLOW[flow](q0, EIGENVALUES, TIMES)
    assert_close(FLOW[flow](rotation @ q0, EIGENVALUES, TIMES), rotation @ path, rtol=0, atol=1e-10)
    values, vectors = eigenbasis(basis @ EIGENVALUES.diag() @ basis.mT)
    weights = q0 @ basis.mT  # the same outputs for inputs x in the other basis
    assert_close(
        FLOW[flow](weights @ vectors, values, TIMES) @ vectors.mT, path @ basis.mT, rtol=0, atol=1e-10
    )
    degenerate = torch.tensor([-1.0, -1.0, -1.0, 0.5, 0.5, 0.5], dtype=torch.float64)
    block = torch.block_diag(orthonormal(3, 3, draws), orthonormal(3, 3, draws))
    turned = FLOW[flow](q0 @ block, degenerate, TIMES)
    assert_close(turned, FLOW[flow](q0, degenerate, TIMES) @ block, rtol=0, atol=1e-10)


@pytest.mark.parametrize("flow", FLOWS)
def test_semigroup_loss_falls_and_norm_stays_below_one(flow):
    path = FLOW[flow](start(3), EIGENVALUES, torch.linspace(0, 3, 31))
    assert_close(FLOW[flow](path[10], EIGENVALUES, torch.tensor([2.0]))[0], path[-1], rtol=0, atol=1e-9)
    assert (flow_loss(path, EIGENVALUES).diff() < 0).all()
    assert (torch.linalg.matrix_norm(path, ord=2) <= 1 + 1e-10).all()


@pytest.mark.parametrize("flow", FLOWS)
def test_near_zero_all_flows_are_linear(flow):
    q0 = 1e-8 * start()
    path = FLOW[flow](q0, EIGENVALUES, TIMES)
    expected = q0 * (-4 * TIMES[:, None, None] * EIGENVALUES).exp()
    assert_close(path, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("flow", FLOWS)
def test_rejects_what_is_no_problem(flow):
    q0 = start()
    function = FLOW[flow]
    with pytest.raises(ValueError, match=r"spectral norm at most 1, got 1\.2; pass W_2\^T W_1 V"):
        function(q0 / torch.linalg.matrix_norm(q0, ord=2) * 1.2, EIGENVALUES, TIMES)
    with pytest.raises(ValueError, match=r"Expected `times` >= 0, got -0\.5; a flow starts at t = 0"):
        function(q0, EIGENVALUES, torch.tensor([1.0, -0.5]))
    with pytest.raises(ValueError, match=r"`q0` of shape \(\*, z, 5\) for 5 eigenvalues, got \(2, 6\)"):
        function(q0, EIGENVALUES[:5], TIMES)
    with pytest.raises(ValueError, match=r"`eigenvalues` of shape \(d,\), got \(6, 6\)"):
        function(q0, EIGENVALUES.diag(), TIMES)
    with pytest.raises(ValueError, match=r"`times` of shape \(T,\), got \(\)"):
        function(q0, EIGENVALUES, torch.tensor(1.0))
    with pytest.raises(TypeError, match=r"`q0` to be a torch\.Tensor, got list"):
        function(q0.tolist(), EIGENVALUES, TIMES)
    for index in range(3):
        problem = [q0.clone(), EIGENVALUES.clone(), TIMES.clone()]
        problem[index].view(-1)[0] = torch.nan
        with pytest.raises(ValueError, match="Expected finite"):
            function(*problem)


def test_rounding_above_norm_one_is_scaled_away():
    q0 = torch.eye(6)[:2] * (1 + 5e-6)
    positive = EIGENVALUES.abs()  # outside the unit ball the outputs would blow up
    path = flows.grassmann_flow(q0, positive, torch.tensor([0.0, 2.0]))
    assert_close(path[0], torch.eye(6, dtype=torch.float64)[:2], rtol=0, atol=1e-15)
    assert (torch.linalg.matrix_norm(path, ord=2) <= 1 + 1e-6).all()
