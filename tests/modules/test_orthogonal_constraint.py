"""What each constraint does to training: Propositions 1 to 3, the parametrisation and its flow, the scaled loss."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lightning_ssl_theory.flows import canonical_flow, eigenbasis, stiefel_flow, trace_matrix
from lightning_ssl_theory.losses import TraceLoss
from lightning_ssl_theory.manifolds import ConstrainedSGD, orthogonality_drift
from lightning_ssl_theory.modules import OrthogonalSSL
from lightning_ssl_theory.modules.orthogonal_constraint import (
    optimizer_constraint,
    parametrize_orthogonal,
    spectral_scale,
)
from lightning_ssl_theory.networks import TwoLayerNetwork


def views() -> list[Tensor]:
    """Two views whose C has three negative eigenvalues and two positive ones."""
    generator = torch.Generator().manual_seed(0)
    centres, noise = torch.randn(2, 200, 5, generator=generator, dtype=torch.float64)
    signs = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    return [centres, centres * signs * torch.tensor([1.5, 1.2, 0.9, 0.7, 0.5]) + 0.1 * noise]


def basis():
    x, positives = views()
    return eigenbasis(trace_matrix(x, positives, x.roll(-1, 0)))


def trained(
    constraint: str, *, lr: float, steps: int, activation: str = "identity", decay: float = 1.0
) -> OrthogonalSSL:
    torch.manual_seed(1)
    model = OrthogonalSSL(5, 9, 2, activation, constraint, lr=lr).double()
    optimizer = model.configure_optimizers()
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(*map(model, views()))
        if constraint == "scaled_loss":
            loss = loss * spectral_scale(model.network.product())
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def cosine_of_outputs(product: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(product[0], product[1], dim=0).abs().item()


def test_proposition_2_frobenius_norms_let_every_row_turn_to_the_lowest_eigenvector() -> None:
    first, last = (trained("frobenius", lr=0.03, steps=n).network.product().detach() for n in (0, 400))
    lowest = basis().eigenvectors[:, 0]
    assert cosine_of_outputs(first) < 0.9
    for row in last:
        assert (row @ lowest).abs() / row.norm() > 1 - 1e-4
    assert cosine_of_outputs(last) > 1 - 1e-4


def test_proposition_1_one_layer_moves_row_by_row() -> None:
    """w' = -2 C w, so w(t) = V e^{-2tL} V^T w(0) for each row by itself: first order in the step."""
    spectrum, time = basis(), 0.5
    start = torch.randn(2, 5, dtype=torch.float64)
    decay = spectrum.eigenvectors * (-2 * time * spectrum.eigenvalues).exp() @ spectrum.eigenvectors.mT
    errors = []
    for steps in (200, 400):
        weight = torch.nn.Parameter(start.clone())
        optimizer = torch.optim.SGD([weight], time / steps)
        for _ in range(steps):
            optimizer.zero_grad()
            TraceLoss()(*(view @ weight.mT for view in views())).backward()
            optimizer.step()
        errors.append(float((weight - start @ decay).detach().norm()))
    assert 1.8 < errors[0] / errors[1] < 2.2


@pytest.mark.parametrize("constraint", ["grassmann", "stiefel", "polar", "parametrization", "scaled_loss"])
def test_proposition_3_the_least_loss_is_the_sum_of_the_lowest_eigenvalues(constraint: str) -> None:
    # the scaled loss has a kink at its least value, where both singular values are the largest: only ever smaller
    # steps come to rest there
    is_scaled = constraint == "scaled_loss"
    model = trained(constraint, lr=0.1 if is_scaled else 0.3, steps=300, decay=0.97 if is_scaled else 1.0)
    product = model.network.product().detach()
    loss = model.loss(*map(model, views())) * spectral_scale(product)
    least = basis().eigenvalues[:2].sum().item()
    assert loss.item() == pytest.approx(least, rel=1e-4)
    assert loss.item() >= least - 1e-9
    ranks = torch.linalg.svdvals(product)
    assert (ranks[1] / ranks[0]).item() > 0.95  # no collapse
    if not is_scaled:
        for layer in (model.network.hidden, model.network.output):
            assert orthogonality_drift(layer.weight.detach()).item() < 1e-6  # drawn in float32


def test_proposition_3_with_fewer_negative_eigenvalues_than_outputs() -> None:
    """h >= d + z - #neg: the outputs that find no negative eigenvalue vanish."""
    matrix = torch.tensor([-1.0, 0.3, 0.6], dtype=torch.float64)
    torch.manual_seed(0)
    model = TwoLayerNetwork(3, 6, 3).double()
    optimizer = ConstrainedSGD(model.parameters(), 0.1)
    for _ in range(600):
        optimizer.zero_grad()
        (model.product().square() * matrix).sum().backward()
        optimizer.step()
    singular = torch.linalg.svdvals(model.product().detach())
    assert_close(singular, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-4)


@pytest.mark.parametrize("orthogonal_map", ["cayley", "matrix_exp"])
def test_parametrisation_starts_where_the_network_does_and_follows_the_canonical_flow(
    orthogonal_map: str,
) -> None:
    torch.manual_seed(2)
    network = TwoLayerNetwork(5, 9, 2).double()
    for weight in network.parameters():
        torch.nn.init.orthogonal_(weight)  # to float64
    start = network.product().detach()
    parametrize_orthogonal(network, orthogonal_map)
    assert_close(network.product().detach(), start, rtol=0, atol=1e-12)
    spectrum, time, steps = basis(), 0.1, 200
    optimizer = ConstrainedSGD(network.parameters(), time / steps, constraint="none")
    for _ in range(steps):
        optimizer.zero_grad()
        TraceLoss()(*map(network, views())).backward()
        optimizer.step()
    found = network.product().detach() @ spectrum.eigenvectors
    canonical, stiefel = (
        flow(start @ spectrum.eigenvectors, spectrum.eigenvalues, torch.tensor([time]))[0]
        for flow in (canonical_flow, stiefel_flow)
    )
    error = (found - canonical).norm()
    assert error < 0.1 * (found - stiefel).norm()
    assert error < 0.02 * (canonical - start @ spectrum.eigenvectors).norm()
    assert orthogonality_drift(network.hidden.weight.detach()) < 1e-12


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("constraint", ["grassmann", "polar", "parametrization", "scaled_loss", "frobenius"])
def test_every_activation_trains(constraint: str, activation: str) -> None:
    models = [trained(constraint, lr=0.02, steps=n, activation=activation) for n in (0, 20)]
    losses = [model.loss(*map(model, views())).item() for model in models]
    if constraint == "scaled_loss":
        losses = [
            loss * spectral_scale(m.network.product()).item() for loss, m in zip(losses, models, strict=True)
        ]
    assert losses[1] < losses[0]


def test_scale_by_hand_and_at_zero() -> None:
    product = torch.tensor([[3.0, 0.0], [0.0, -4.0]], requires_grad=True)
    scale = spectral_scale(product)
    assert scale.item() == pytest.approx(1 / 16)
    scale.backward()
    assert_close(product.grad, torch.tensor([[0.0, 0.0], [0.0, 2 / 64]]))  # d s^-2 = -2 s^-3 ds, s = 4
    zero = torch.zeros(2, 3, requires_grad=True)
    spectral_scale(zero).backward()
    assert zero.grad.isfinite().all()
    assert spectral_scale(torch.eye(2, dtype=torch.bfloat16)).dtype == torch.float32


def test_rejects() -> None:
    message = (
        "one of grassmann, stiefel, polar, parametrization, scaled_loss, frobenius, none, got 'qr'; choose"
    )
    with pytest.raises(ValueError, match=message):
        optimizer_constraint("qr")
    with pytest.raises(
        ValueError, match="`orthogonal_map` to be one of cayley, matrix_exp, got 'householder'"
    ):
        OrthogonalSSL(5, 9, 2, constraint="parametrization", orthogonal_map="householder")
