"""Losses on moments of the batch: loops, laws, edges, peers, and several ranks."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad, gradcheck, gradgradcheck

from lightning_ssl_theory.losses import CrossCorrelationLoss, SpectralContrastiveLoss, VICRegLoss

close = torch.testing.assert_close


def views(num_samples: int = 5, width: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    base = torch.randn(num_samples, width, dtype=dtype)
    noisy = [base + 0.3 * torch.randn_like(base) for _ in range(2)]
    return noisy[0].requires_grad_(), noisy[1].requires_grad_()


# ------------------------------------------------------------------ loops over single numbers


def mean(values: list[Tensor]) -> Tensor:
    return sum(values) / len(values)


def moment(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Mean of products of two numbers."""
    return mean([a * b for a, b in zip(first, second, strict=True)])


def columns(z: Tensor) -> list[list[Tensor]]:
    return [list(column) for column in z.mT]


def centred(column: list[Tensor]) -> list[Tensor]:
    return [value - mean(column) for value in column]


def cross_correlation_loop(loss: CrossCorrelationLoss, z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    first, second = columns(z1), columns(z2)
    if loss.standardize:
        first, second = (
            [[v / (moment(c, c) + loss.eps) ** 0.5 for v in c] for c in map(centred, view)]
            for view in (first, second)
        )
    pairs = product(range(len(first)), repeat=2)
    c = {(i, j): moment(first[i], second[j]) for i, j in pairs}
    if not loss.standardize:
        c = {(i, j): (c[i, j] + c[j, i]) / 2 for i, j in c}
    on = sum((1 - value) ** 2 for (i, j), value in c.items() if i == j)
    off = sum((value**2 for (i, j), value in c.items() if i != j), torch.zeros(()))
    return on, off * (loss.lamb if loss.standardize else 1.0)


def vicreg_loop(loss: VICRegLoss, z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    num_samples, width = z1.shape
    invariance = mean([(a - b) ** 2 for a, b in zip(z1.flatten(), z2.flatten(), strict=True)])
    spread = torch.zeros(())
    for view in (z1, z2):
        parts = [centred(column) for column in columns(view)]
        for i, j in product(range(width), repeat=2):
            covariance = num_samples / (num_samples - 1) * moment(parts[i], parts[j])
            hinge = torch.relu(1 - (covariance + loss.eps) ** 0.5) if i == j else 0.0
            spread = spread + loss.variance_weight * hinge / (2 * width)
            spread = spread + loss.covariance_weight * (i != j) * covariance**2 / width
    return loss.invariance_weight * invariance, spread


def spectral_loop(loss: SpectralContrastiveLoss, z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    products = {(i, j): sum(z1[i] * z2[j]) for i, j in product(range(len(z1)), repeat=2)}
    pull = mean([value for (i, j), value in products.items() if i == j])
    push = mean([value**2 for (i, j), value in products.items() if i != j])
    return -2 * pull, push


LOOPS: dict[type, Callable[..., tuple[Tensor, Tensor]]] = {
    CrossCorrelationLoss: cross_correlation_loop,
    VICRegLoss: vicreg_loop,
    SpectralContrastiveLoss: spectral_loop,
}
LOSSES = [
    pytest.param(CrossCorrelationLoss(), id="barlow"),
    pytest.param(CrossCorrelationLoss(0.3, eps=0.1), id="barlow-eps"),
    pytest.param(CrossCorrelationLoss(standardize=False), id="cross-correlation"),
    pytest.param(VICRegLoss(), id="vicreg"),
    pytest.param(VICRegLoss(1.0, 2.0, 3.0, eps=0.2), id="vicreg-weights"),
    pytest.param(SpectralContrastiveLoss(), id="spectral"),
]
LIST = [param.values[0] for param in LOSSES]
every_loss = pytest.mark.parametrize("loss", LOSSES)


def test_loops_by_hand() -> None:
    z1, z2 = torch.tensor([[1.0, 0.0], [-1.0, 2.0]]), torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    # standardised both are (1, -1) and (-1, 1): C = (1, -1; -1, 1)
    assert cross_correlation_loop(CrossCorrelationLoss(0.5), z1, z2) == (0.0, 1.0)
    # E z1 z2^T = (1, -1; 0, 2), symmetrized (1, -.5; -.5, 2)
    assert cross_correlation_loop(CrossCorrelationLoss(standardize=False), z1, z2) == (1.0, 0.5)
    # both views have the covariance (2, -2; -2, 2): no hinge, 2 * 2 * 4 / 2; the first feature differs by 1
    assert vicreg_loop(VICRegLoss(), z1, z2) == (25 * 0.5, 8.0)
    # products (2, 0; -2, 4)
    assert spectral_loop(SpectralContrastiveLoss(), z1, z2) == (-6.0, 2.0)


@every_loss
@pytest.mark.parametrize(("num_samples", "width"), [(2, 3), (5, 3), (6, 1)])
def test_value_parts_and_gradient_are_those_of_the_loop(
    loss: nn.Module, num_samples: int, width: int
) -> None:
    z = views(num_samples, width)
    alignment, regularization = LOOPS[type(loss)](loss, *z)
    value, parts = loss(*z), loss.parts(*z)
    assert list(parts) == ["alignment", "regularization"]
    exact = {"rtol": 1e-11, "atol": 1e-11}
    close(parts["alignment"], alignment, **exact, check_dtype=False)
    close(parts["regularization"], regularization, **exact, check_dtype=False)
    close(value, alignment + regularization, **exact)
    close(grad(value, z), grad(alignment + regularization, z), rtol=1e-8, atol=1e-8)


@every_loss
def test_gradcheck(loss: nn.Module) -> None:
    z = views(4, 3)
    assert gradcheck(loss, z)
    assert gradgradcheck(loss, z)


@every_loss
def test_float32_agrees_with_float64(loss: nn.Module) -> None:
    z = views(64, 32)
    value = loss(*(v.float() for v in z))
    assert value.dtype == torch.float32
    close(value.double(), loss(*z), rtol=2e-6, atol=2e-6)


# ------------------------------------------------------------------ laws


@every_loss
def test_symmetries(loss: nn.Module) -> None:
    z1, z2 = views(7)
    order = torch.randperm(7)
    for pair in [(z1[order], z2[order]), (z2, z1), (z1[:, [2, 0, 1]], z2[:, [2, 0, 1]])]:
        close(loss(*pair), loss(z1, z2), rtol=1e-11, atol=1e-11)


def test_barlow_does_not_know_shift_and_scale_of_a_feature() -> None:
    z1, z2 = views(7)
    moved = (z1 * torch.tensor([2.0, 0.5, 9.0]) + 3.0, z2 * 0.1 - torch.arange(3.0))
    close(CrossCorrelationLoss()(*moved), CrossCorrelationLoss()(z1, z2), rtol=1e-10, atol=1e-10)


def test_alignment_of_identical_views() -> None:
    z, _ = views(7)
    for loss in (CrossCorrelationLoss(), VICRegLoss()):
        assert loss.parts(z, z)["alignment"].item() == pytest.approx(0.0, abs=1e-24)


def test_cross_correlation_is_that_of_the_linear_network() -> None:
    w, x1, x2 = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 4), (9, 4), (9, 4)))
    gamma = (x1.mT @ x2 + x2.mT @ x1) / 18
    w.requires_grad_()
    value = CrossCorrelationLoss(standardize=False)(x1 @ w.mT, x2 @ w.mT)
    residual = w @ gamma @ w.mT - torch.eye(2, dtype=torch.float64)
    close(value, residual.square().sum(), rtol=1e-12, atol=1e-12)
    close(grad(value, w)[0], 4 * residual @ w @ gamma, rtol=1e-12, atol=1e-12)  # minus the flow's velocity


# ------------------------------------------------------------------ peers


def test_barlow_is_that_of_lightly() -> None:
    # lightly standardises by batch_norm, biased as here, with eps 1e-5
    reference = pytest.importorskip("lightly.loss").BarlowTwinsLoss(lambda_param=0.01)
    z = views(64, 16, torch.float32)
    expected = reference(*z)
    value = CrossCorrelationLoss(0.01, eps=1e-5)(*z)
    close(value, expected, rtol=1e-6, atol=1e-6)
    close(grad(value, z), grad(expected, z), rtol=1e-6, atol=1e-6)
    assert (CrossCorrelationLoss(0.01)(*z) - expected).abs() > 1e-6  # what its eps does


def test_vicreg_is_that_of_lightly() -> None:
    # the same there and here: variance and covariance unbiased, half the variance term, eps 1e-4 in the root
    reference = pytest.importorskip("lightly.loss").VICRegLoss(10.0, 20.0, 3.0)
    z = views(64, 16)
    value, expected = VICRegLoss(10.0, 20.0, 3.0)(*z), reference(*z)
    close(value, expected, rtol=1e-12, atol=1e-12)
    close(grad(value, z), grad(expected, z), rtol=1e-10, atol=1e-12)
    single = [v.detach().float() for v in z]
    close(
        VICRegLoss()(*single), pytest.importorskip("lightly.loss").VICRegLoss()(*single), rtol=1e-6, atol=1e-6
    )


# ------------------------------------------------------------------ precision and edges


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss: nn.Module, dtype: torch.dtype) -> None:
    z = [v.detach().to(dtype).requires_grad_() for v in views()]
    expected = loss(*(v.float() for v in z))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*z)
        gradients = grad(value, z)
    assert value.dtype == torch.float32
    close(value, expected, rtol=0, atol=0)
    assert all(g.dtype == dtype for g in gradients)


@pytest.mark.parametrize("loss", [VICRegLoss(), CrossCorrelationLoss(eps=1e-5), SpectralContrastiveLoss()])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_collapsed_outputs_have_finite_gradients(loss: nn.Module, value: float) -> None:
    z = torch.full((4, 3), value, requires_grad=True)
    (gradient,) = grad(loss(z, z), z)
    assert gradient.isfinite().all()


@every_loss
def test_not_a_number_stays_one(loss: nn.Module) -> None:
    z1, z2 = (v.detach() for v in views())
    z1[1, 1] = torch.nan
    assert loss(z1, z2).isnan()


def test_a_large_mean_costs_no_variance() -> None:
    z = views(64, 4)
    far = [(v.detach() + 1000.0).float() for v in z]
    for loss in (CrossCorrelationLoss(), VICRegLoss()):
        close(loss(*far).double(), loss(*(v.double() for v in far)), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ rejected inputs


@every_loss
def test_rejects_what_is_no_batch_of_pairs(loss: nn.Module) -> None:
    z = torch.randn(4, 3)
    cases: list[tuple[Any, Any, str]] = [
        (z[0], z[0], r"Expected `z1` of shape \(N, D\), got \(3,\); pass a matrix"),
        (z, z[None], r"Expected `z2` of shape \(N, D\), got \(1, 4, 3\); pass a matrix"),
        (z, z[:2], r"Expected `z1` and `z2` of one shape, got \(4, 3\) and \(2, 3\); pass two views"),
        (z.to(torch.complex64), z, "Expected `z1` of real numbers, got torch.complex64; pass its real part"),
        (z.tolist(), z, "Expected `z1` to be a torch.Tensor, got list"),
        (z[:0], z[:0], "Expected at least [12] samples over all ranks in `z1`, got 0; "),
    ]
    for z1, z2, message in cases:
        with pytest.raises(ValueError, match=message):
            loss(z1, z2)
        with pytest.raises(ValueError, match=message):
            loss.parts(z1, z2)


@pytest.mark.parametrize("loss", [CrossCorrelationLoss(), VICRegLoss(), SpectralContrastiveLoss()])
def test_rejects_a_single_sample(loss: nn.Module) -> None:
    with pytest.raises(
        ValueError, match=r"Expected at least 2 samples over all ranks in `z1`, got 1; .*drop_last=True"
    ):
        loss(torch.ones(1, 3), torch.ones(1, 3))


@pytest.mark.parametrize("value", [0.0, 0.1, -12345.678])
def test_barlow_names_a_feature_without_variance(value: float) -> None:
    z1, z2 = torch.randn(1001, 4), torch.randn(1001, 4)
    z2[:, 2:] = value
    message = "`z2` to vary over the samples in every feature, got 2 constant ones, number 2 first; .* pass eps=1e-5"
    with pytest.raises(ValueError, match=message):
        CrossCorrelationLoss()(z1, z2)
    assert CrossCorrelationLoss(eps=1e-5)(z1, z2).isfinite()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossCorrelationLoss(-1.0), "Expected `lamb` >= 0, got -1.0"),
        (lambda: CrossCorrelationLoss(standardize=1), "Expected `standardize` to be True or False, got 1"),
        (lambda: CrossCorrelationLoss(eps=-1.0), "Expected `eps` >= 0, got -1.0"),
        (
            lambda: CrossCorrelationLoss(0.2, standardize=False),
            "Expected no `lamb` with standardize=False, got 0.2; all entries",
        ),
        (lambda: VICRegLoss(-1.0), "Expected `invariance_weight` >= 0, got -1.0; 0.0 leaves its term out"),
        (lambda: VICRegLoss(variance_weight=float("nan")), "Expected `variance_weight` >= 0, got nan"),
        (lambda: VICRegLoss(eps=0.0), "Expected `eps` > 0, got 0.0"),
    ],
)
def test_rejects_arguments(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
