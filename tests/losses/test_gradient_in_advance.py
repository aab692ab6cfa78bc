"""The form that knows its gradient where one derivative is asked for, the differentiable form elsewhere."""

import pytest
import torch
from torch import Tensor
from torch.autograd import grad
from torch.func import hessian, jvp, vmap

from lightning_ssl_theory.losses.gradient_in_advance import with_gradient_in_advance

close = torch.testing.assert_close


class Forms:
    """sum of x^2 y in two forms, the calls of which are counted."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def whole(self, x: Tensor, y: Tensor) -> Tensor:
        self.calls.append("whole")
        return (x.square() * y).sum()

    def by_hand(self, x: Tensor, y: Tensor, *, has_gradient: bool) -> tuple[Tensor, ...]:
        self.calls.append("with gradient" if has_gradient else "value")
        value = (x.square() * y).sum()
        return (value, 2 * x * y, x.square()) if has_gradient else (value,)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return with_gradient_in_advance(self.whole, self.by_hand, x, y)


def points() -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, 5, dtype=torch.float64).unbind()
    return x.requires_grad_(), y.requires_grad_()


def test_one_derivative_needs_no_graph() -> None:
    forms, (x, y) = Forms(), points()
    value = forms(x, y)
    for _ in range(2):
        close(grad(3 * value, (x, y), retain_graph=True), (6 * x * y, 3 * x.square()))
    assert forms.calls == ["with gradient"]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_gradient_is_made_where_none_can_be_asked_for(mode) -> None:
    forms, (x, y) = Forms(), points()
    with mode():
        close(forms(x, y), (x.square() * y).sum())
    forms(x.detach(), y.detach())
    assert forms.calls == ["value", "value"]


def test_further_derivatives_take_the_differentiable_form() -> None:
    forms, (x, y) = Forms(), points()
    (first,) = grad(forms(x, y), x, create_graph=True)
    close(grad(first.sum(), (x, y)), (2 * y, 2 * x))
    assert forms.calls == ["with gradient", "whole"]
    x, y = x.detach(), y.detach()
    close(hessian(Forms())(x, y), torch.diag(2 * y))
    close(jvp(Forms(), (x, y), (y, x))[1], (2 * x * y * y + x**3).sum())
    close(vmap(Forms(), (0, None))(torch.stack([x, y]), y), torch.stack([(x * x * y).sum(), (y**3).sum()]))
