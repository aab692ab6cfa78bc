"""The log-sum-exp by blocks against whole matrices: values, gradients of every order, precision, memory and time."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers.peak_memory import CAN_MEASURE, peak_bytes
from torch import Tensor
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual
from torch.func import grad as functional_grad
from torch.func import hessian, jacfwd, jvp, vmap
from torch.nn.functional import cross_entropy, normalize
from torch.utils.checkpoint import checkpoint

import lightning_ssl_theory.losses.blockwise_contrast as blocks
from lightning_ssl_theory.losses import InfoNCELoss

close = torch.testing.assert_close
FORMS = [
    pytest.param({}, id="cosine"),
    pytest.param({"temperature": 0.005}, id="cosine, cold"),
    pytest.param({"distance": "squared"}, id="squared"),
    pytest.param({"symmetric": False}, id="one way"),
    pytest.param({"symmetric": False, "distance": "squared"}, id="squared, one way"),
]
every_form = pytest.mark.parametrize("options", FORMS)


@pytest.fixture(autouse=True, params=[0, 2**22], ids=["made twice", "kept"])
def blocks_of_four(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Several blocks, the last ones smaller, in batches of a few rows."""
    monkeypatch.setattr(blocks, "_KEPT", request.param)
    monkeypatch.setattr(blocks, "_TILE", (4, 6))


def views(num_samples: int = 7, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    z1, noise = torch.randn(2, num_samples, 5, dtype=dtype)
    return z1.requires_grad_(), (z1 + 0.5 * noise).detach().requires_grad_()


def whole(
    z1: Tensor, z2: Tensor, *, temperature: float = 0.5, distance: str = "cosine", symmetric: bool = True
) -> Tensor:
    """InfoNCE as a cross-entropy of a matrix of pairwise differences."""
    if distance == "cosine":
        z1, z2 = normalize(z1, dim=-1), normalize(z2, dim=-1)
    anchors, keys = (torch.cat([z1, z2]), torch.cat([z1, z2])) if symmetric else (z1, z2)
    logits = -(anchors[:, None] - keys).square().sum(-1) / (2 * temperature)
    targets = torch.arange(len(anchors))
    if symmetric:
        logits = logits.masked_fill(torch.eye(len(anchors), dtype=torch.bool), -math.inf)
        targets = targets.roll(len(z1))
    return cross_entropy(logits, targets) * (temperature if distance == "squared" else 1.0)


@every_form
@pytest.mark.parametrize("num_samples", [2, 4, 7])
def test_value_and_gradient_are_those_of_the_whole_matrix(options: dict, num_samples: int) -> None:
    z = views(num_samples)
    value, expected = InfoNCELoss(**options)(*z), whole(*z, **options)
    close(value, expected, rtol=1e-12, atol=1e-12)
    close(grad(value, z), grad(expected, z), rtol=1e-11, atol=1e-12)


@every_form
def test_float32_is_as_good_as_a_whole_matrix_of_products(options: dict) -> None:
    z = [3 + view.detach() for view in views(40)]
    leaves = [view.float().requires_grad_() for view in z]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    value, expected = InfoNCELoss(**options)(*leaves), whole(*exact, **options)
    close(value.double(), expected, rtol=1e-5, atol=2e-5)
    # inner products are right to some 1e-7, over the temperature
    tolerance = 1e-5 if options.get("temperature", 0.5) > 0.1 else 1e-3
    for found, true in zip(grad(value, leaves), grad(expected, exact), strict=True):
        assert (found.double() - true).norm() < tolerance * true.norm()


def test_a_loss_near_zero_keeps_its_digits() -> None:
    z = torch.eye(12).requires_grad_()  # 22 negatives at cosine 0: log(1 + 22 e^(-1 / 0.06))
    value = InfoNCELoss(0.06)(z, z)
    close(value.item(), math.log1p(22 * math.exp(-1 / 0.06)), rtol=1e-5, atol=0)


def test_far_apart_rows_neither_overflow_nor_vanish() -> None:
    scales = torch.tensor([1e-3, 1.0, 30.0, 1e3, 1.0, 1e2, 1e-2], dtype=torch.float64)[:, None]
    z = [(scales * view.detach()).requires_grad_() for view in views()]
    value, expected = (
        InfoNCELoss(0.01, distance="squared")(*z),
        whole(*z, temperature=0.01, distance="squared"),
    )
    close(value, expected, rtol=1e-9, atol=1e-9)
    close(grad(value, z), grad(expected, z), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("low", [-1e9, -5.0, 1e9])
def test_one_exponential_or_two_of_squared_distances(monkeypatch: pytest.MonkeyPatch, low: float) -> None:
    monkeypatch.setattr(blocks, "_LOWEST_SUM", low)  # always one, as it comes, always two
    z = views()
    value, expected = InfoNCELoss(distance="squared")(*z), whole(*z, distance="squared")
    close(value, expected, rtol=1e-12, atol=1e-12)
    for _ in range(2):  # what is kept serves a second backward pass
        close(grad(value, z, retain_graph=True), grad(expected, z, retain_graph=True), rtol=1e-11, atol=1e-12)


@every_form
def test_one_view_without_gradient_and_one_tensor_as_both(options: dict) -> None:
    z1, z2 = views()
    loss = InfoNCELoss(**options)
    (alone,) = grad(loss(z1, z2.detach()), z1)
    close(alone, grad(whole(z1, z2.detach(), **options), z1)[0], rtol=1e-11, atol=1e-12)
    (alone,) = grad(loss(z1.detach(), z2), z2)
    close(alone, grad(whole(z1.detach(), z2, **options), z2)[0], rtol=1e-11, atol=1e-12)
    (both,) = grad(loss(z1, z1), z1)
    close(both, grad(whole(z1, z1, **options), z1)[0], rtol=1e-11, atol=1e-12)
    with torch.no_grad():
        close(loss(z1, z2), whole(z1, z2, **options))


@every_form
def test_nan_stays(options: dict) -> None:
    z1, z2 = views()
    spoilt = z1.detach().clone()
    spoilt[3, 1] = math.nan
    leaf = z2.detach().requires_grad_()
    value = InfoNCELoss(**options)(spoilt, leaf)
    assert value.isnan()
    assert grad(value, leaf)[0].isnan().any()


@every_form
def test_derivatives_of_every_kind(options: dict) -> None:
    z, loss = views(3), InfoNCELoss(**options)
    assert gradcheck(loss, z, check_forward_ad=True, check_batched_grad=True)
    if loss.temperature > 0.1:
        assert gradgradcheck(loss, z)


FORMS_OF_DERIVATIVES: dict[str, Callable] = {
    "gradient": lambda f, a, b: functional_grad(f)(a, b),
    "hessian": lambda f, a, b: hessian(f)(a, b),
    "jvp": lambda f, a, b: jvp(f, (a, b), (b, a))[1],
    "jacobian": lambda f, a, b: jacfwd(f, argnums=1)(a, b),
    "forward over reverse": lambda f, a, b: jvp(lambda x: functional_grad(f)(x, b), (a,), (b,))[1],
    "vmap": lambda f, a, b: vmap(f, (0, None))(torch.stack([a, 2 * b, a + b]), b),
    "vmap of gradients": lambda f, a, b: vmap(functional_grad(f), (None, 1))(a, torch.stack([b, a - b], 1)),
    "checkpoint": lambda f, a, b: grad(checkpoint(f, a.requires_grad_(), b, use_reentrant=False), a)[0],
}


@pytest.mark.parametrize("blocks_of_four", [0], indirect=True)
@pytest.mark.parametrize("options", [FORMS[0], FORMS[2], FORMS[4]])
@pytest.mark.parametrize("kind", FORMS_OF_DERIVATIVES)
def test_transforms_of_functions(options: dict, kind: str) -> None:
    derivative, z = FORMS_OF_DERIVATIVES[kind], [view.detach() for view in views(5)]
    found = derivative(InfoNCELoss(**options), *z)
    close(found, derivative(lambda a, b: whole(a, b, **options), *z), rtol=1e-9, atol=1e-11)


def test_forward_derivative_of_a_backward_pass() -> None:
    def tangent(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        with dual_level():
            dual = make_dual(z1, z2)
            return unpack_dual(grad(loss(dual, z2), dual)[0]).tangent

    z1, z2 = views()
    close(tangent(InfoNCELoss()), tangent(whole), rtol=1e-10, atol=1e-12)


def test_backward_inside_autocast_is_in_full_precision() -> None:
    z = views(9, torch.float32)
    expected = grad(InfoNCELoss()(*z), z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = InfoNCELoss()(*z)
        found = grad(value, z)
    close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("blocks_of_four", [0], indirect=True)
@pytest.mark.all_cases
@pytest.mark.parametrize("options", [{}, {"distance": "squared"}], ids=["cosine", "squared"])
def test_compiled_for_any_batch_size(options: dict) -> None:
    torch.compiler.reset()
    loss = InfoNCELoss(**options)
    compiled = torch.compile(loss, backend="aot_eager", dynamic=True, fullgraph=True)
    for num_samples in (5, 8):
        z = views(num_samples)
        close(grad(compiled(*z), z), grad(loss(*z), z), rtol=1e-10, atol=1e-12)


NUM_ROWS = 4096  # a matrix of 8192 x 8192 float32 numbers has 256 MiB


def _large_step() -> Callable[[], object]:
    z = [torch.randn(NUM_ROWS, 16, requires_grad=True) for _ in range(2)]
    return lambda: grad(InfoNCELoss()(*z), z)


@pytest.mark.parametrize("blocks_of_four", [0], indirect=True)
@pytest.mark.skipif(not CAN_MEASURE, reason="needs the kernel's peak of memory")
def test_memory_does_not_grow_with_the_square_of_the_batch() -> None:
    assert peak_bytes(_large_step) < 40 * 2**20
