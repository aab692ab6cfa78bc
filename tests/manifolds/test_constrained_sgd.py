"""Single steps by formula, long runs, and the flow that small steps follow."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from torch.testing import assert_close

from lightning_ssl_theory.losses.trace import TraceLoss
from lightning_ssl_theory.manifolds import ConstrainedSGD, check_constraint, orthogonality_drift
from lightning_ssl_theory.networks.two_layer import TwoLayerNetwork

CONSTRAINED = ["grassmann", "stiefel", "polar"]


def orthonormal_parameter(rows: int, columns: int, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    return nn.Parameter(nn.init.orthogonal_(torch.empty(rows, columns, dtype=dtype)))


def stepped(weight: Tensor, gradient: Tensor, lr: float, constraint: str) -> Tensor:
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient
    ConstrainedSGD([parameter], lr, constraint=constraint).step()
    return parameter.detach()


def numpy_step(weight: np.ndarray, gradient: np.ndarray, lr: float, constraint: str) -> np.ndarray:
    if constraint in ("grassmann", "stiefel"):
        product = weight.T @ gradient
        gradient = gradient - weight @ (product + (product.T if constraint == "stiefel" else product)) / 2
        # Q of the QR decomposition with positive signs, from the Cholesky factor of the Gram matrix.
        moved = weight - lr * gradient
        return moved @ np.linalg.inv(np.linalg.cholesky(moved.T @ moved).T)
    left, _, right = np.linalg.svd(weight - lr * gradient, full_matrices=False)
    return left @ right


def test_oracle_by_hand() -> None:
    weight, gradient = np.array([[1.0], [0.0]]), np.array([[5.0], [-1.0]])
    np.testing.assert_allclose(numpy_step(weight, gradient, 0.75, "stiefel"), [[0.8], [0.6]])
    np.testing.assert_allclose(
        numpy_step(weight, gradient, 0.1, "polar"), [[0.5 / 0.26**0.5], [0.1 / 0.26**0.5]]
    )


@pytest.mark.parametrize("constraint", CONSTRAINED)
@pytest.mark.parametrize("shape", [(6, 3), (4, 4)])
def test_step_by_formula(shape: tuple[int, int], constraint: str) -> None:
    weight, gradient = orthonormal_parameter(*shape).detach(), torch.randn(shape, dtype=torch.float64)
    expected = torch.from_numpy(numpy_step(weight.numpy(), gradient.numpy(), 0.1, constraint))
    assert_close(stepped(weight, gradient, 0.1, constraint), expected, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("constraint", CONSTRAINED)
def test_wide_weight_moves_as_its_transpose(constraint: str) -> None:
    weight, gradient = orthonormal_parameter(6, 3).detach(), torch.randn(6, 3, dtype=torch.float64)
    wide = stepped(weight.mT.contiguous(), gradient.mT.contiguous(), 0.1, constraint)
    assert_close(wide.mT, stepped(weight, gradient, 0.1, constraint), rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
def test_frobenius_steps_are_plain_within_the_ball_and_scaled_outside(shape: tuple[int, int]) -> None:
    weight, gradient = torch.randn(2, *shape, dtype=torch.float64)
    weight *= 3**0.5 / weight.norm()
    inward, outward = stepped(weight, weight, 0.1, "frobenius"), stepped(weight, -gradient, 0.1, "frobenius")
    assert_close(inward, 0.9 * weight)
    moved = weight + 0.1 * gradient
    if moved.norm() < 3**0.5:
        moved, outward = weight - 0.1 * gradient, stepped(weight, gradient, 0.1, "frobenius")
    assert_close(outward, moved * 3**0.5 / moved.norm())


def test_without_constraint_it_is_plain_gradient_descent() -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    optimizers = [
        ConstrainedSGD(ours.parameters(), 0.1, constraint="none"),
        torch.optim.SGD(theirs.parameters(), 0.1),
    ]
    inputs = torch.randn(5, 3)
    for model, optimizer in zip((ours, theirs), optimizers, strict=True):
        for _ in range(3):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
    assert_close(ours.state_dict(), theirs.state_dict())


def test_closure_groups_and_missing_gradients() -> None:
    used, unused, bias = orthonormal_parameter(3, 2), orthonormal_parameter(3, 2), nn.Parameter(torch.ones(2))
    before = unused.detach().clone()
    groups = [{"params": [used, unused]}, {"params": [bias], "lr": 0.5, "constraint": "none"}]
    optimizer = ConstrainedSGD(groups, 0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = used[0, 0] + bias.double().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(used[0, 0].item() + 2.0, abs=0.2)
    assert_close(unused.detach(), before, rtol=0.0, atol=0.0)
    assert bias.tolist() == [0.5, 0.5]
    assert optimizer.step() is None
    assert ConstrainedSGD([used], 0.1).state_dict()["state"] == {}


@pytest.mark.parametrize("constraint", CONSTRAINED)
def test_float32_stays_orthonormal_over_thousands_of_steps(constraint: str) -> None:
    weights = [orthonormal_parameter(16, 12, torch.float32), orthonormal_parameter(4, 16, torch.float32)]
    optimizer = ConstrainedSGD(weights, 1.0, constraint=constraint)
    drift = 0.0
    for step in range(2000):
        for weight in weights:
            weight.grad = 10.0 ** (step % 4 - 2) * torch.randn_like(weight)
        optimizer.step()
        if step % 20 == 0:
            drift = max(drift, *(orthogonality_drift(weight.detach()).item() for weight in weights))
    assert drift <= 1e-5


def stiefel_flow(q: np.ndarray, lam: np.ndarray) -> np.ndarray:
    return -(4 * q * lam - 3 * (q * lam) @ q.T @ q - q @ q.T @ (q * lam))


def grassmann_flow(q: np.ndarray, lam: np.ndarray) -> np.ndarray:
    return -2 * (2 * q * lam - (q * lam) @ q.T @ q - q @ q.T @ (q * lam))


def integrate(flow, q0: np.ndarray, lam: np.ndarray, time: float) -> np.ndarray:
    solution = solve_ivp(
        lambda _, q: flow(q.reshape(q0.shape), lam).ravel(), (0.0, time), q0.ravel(), rtol=1e-10, atol=1e-12
    )
    return solution.y[:, -1].reshape(q0.shape)


def trained_product(
    network: TwoLayerNetwork, views: list[Tensor], lr: float, steps: int, constraint: str
) -> Tensor:
    model = TwoLayerNetwork(
        network.hidden.in_features, network.hidden.out_features, network.num_features
    ).double()
    model.load_state_dict(network.state_dict())
    optimizer, loss = ConstrainedSGD(model.parameters(), lr, constraint=constraint), TraceLoss()
    for _ in range(steps):
        optimizer.zero_grad()
        loss(*map(model, views)).backward()
        optimizer.step()
    return (model.output.weight @ model.hidden.weight).detach()


@pytest.mark.parametrize("constraint", CONSTRAINED)
def test_small_steps_follow_one_flow_and_not_the_other(constraint: str) -> None:
    network = TwoLayerNetwork(6, 9, 3).double()
    centres = torch.randn(30, 6, dtype=torch.float64) * torch.linspace(1.2, 0.4, 6, dtype=torch.float64)
    views = [centres + 0.3 * torch.randn_like(centres) for _ in range(2)]
    moment = ((views[0].roll(-1, 0) - views[1]).mT @ views[0]) / 30
    eigenvalues, eigenvectors = torch.linalg.eigh((moment + moment.mT) / 2)
    q0 = (network.output.weight @ network.hidden.weight).detach() @ eigenvectors
    time = 0.3
    expected, other = (
        integrate(flow, q0.numpy(), eigenvalues.numpy(), time)
        for flow in (stiefel_flow, grassmann_flow)[:: -1 if constraint == "grassmann" else 1]
    )
    errors = []
    for lr in (4e-3, 2e-3):
        found = trained_product(network, views, lr, round(time / lr), constraint) @ eigenvectors
        errors.append(np.linalg.norm(found.numpy() - expected))
    assert 1.8 < errors[0] / errors[1] < 2.2  # first order in the learning rate
    assert errors[1] < 1e-2 * np.linalg.norm(expected - q0.numpy())
    assert np.linalg.norm(found.numpy() - other) > 10 * errors[1]


@pytest.mark.parametrize("lr", [0.0, -1.0])
def test_rejects_learning_rates(lr: float) -> None:
    with pytest.raises(ValueError, match="Expected `lr` > 0"):
        ConstrainedSGD([orthonormal_parameter(3, 2)], lr)


def test_rejects_unknown_constraints() -> None:
    message = "Expected `constraint` to be one of grassmann, stiefel, polar, frobenius, none, got 'orthogonal'; choose one"
    with pytest.raises(ValueError, match=message):
        check_constraint("orthogonal")
    with pytest.raises(ValueError, match=message):
        ConstrainedSGD([orthonormal_parameter(3, 2)], 0.1, constraint="orthogonal")


def test_rejects_parameters_that_are_no_matrices() -> None:
    with pytest.raises(ValueError, match=r"matrices as constrained parameters, got shape \(2,\); put other"):
        ConstrainedSGD(nn.Linear(3, 2).parameters(), 0.1)


def test_rejects_half_precision() -> None:
    with pytest.raises(ValueError, match=r"dtype float32 or float64, got torch\.bfloat16; train with"):
        ConstrainedSGD([nn.Parameter(torch.eye(3, dtype=torch.bfloat16))], 0.1)
