"""A scalar that comes with its own gradient, made by hand in the forward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.forward_ad import unpack_dual
from torch.func import vjp, vmap

Whole = Callable[..., Tensor]
ByHand = Callable[..., tuple[Tensor, ...]]


def with_gradient_in_advance(whole: Whole, by_hand: ByHand, *tensors: Tensor) -> Tensor:
    """Value of a function that has two forms, one of which knows its gradient.

    Backward passes only multiply. Derivatives of derivatives, forward-mode derivatives, torch.func and torch.compile
    take the form that PyTorch differentiates.

    Args:
        whole: Its differentiable form: the tensors to a scalar.
        by_hand: The same with a flag `has_gradient`, which asks for the scalar followed by its gradient by each tensor.
        *tensors: Of floating point.

    Returns:
        Scalar.

    Example:
        >>> rows = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> square = with_gradient_in_advance(
        ...     lambda x: x.square().sum(), lambda x, has_gradient: (x.square().sum(), 2 * x), rows
        ... )
        >>> torch.autograd.grad(square, rows)[0]
        tensor([2., 4.])
    """
    if torch.compiler.is_compiling():
        return whole(*tensors)
    has_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return _GradientInAdvance.apply(whole, by_hand, has_gradient, *tensors)[0]


class _GradientInAdvance(Function):
    @staticmethod
    def forward(whole: Whole, by_hand: ByHand, has_gradient: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        value, *gradients = by_hand(*tensors, has_gradient=has_gradient)
        return value, *(gradients or value.new_empty(len(tensors), 0).unbind())  # always as many

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.whole, _, _, *tensors = inputs
        ctx.num_tensors = len(tensors)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *output[1:])
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        tensors, gradients = saved[: ctx.num_tensors], saved[ctx.num_tensors :]
        if torch.is_grad_enabled() or any(unpack_dual(tensor).tangent is not None for tensor in tensors):
            with torch.autocast(upstream.device.type, enabled=False):
                gradients = vjp(ctx.whole, *tensors)[1](torch.ones_like(upstream))
        return None, None, None, *(upstream * gradient for gradient in gradients)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        gradients = vjp(ctx.whole, *ctx.saved_tensors[: ctx.num_tensors])[1](torch.ones(()))
        pairs = zip(gradients, tangents[3:], strict=True)
        moved = sum((part * tangent).sum() for part, tangent in pairs if tangent is not None)
        return moved, *[None] * ctx.num_tensors

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], whole: Whole, *inputs: Any) -> Any:
        tensors = inputs[2:]
        values = vmap(whole, in_dims[3:])(*tensors)
        return (values, *values.new_zeros(len(tensors), 0).unbind()), (0, *[None] * len(tensors))
