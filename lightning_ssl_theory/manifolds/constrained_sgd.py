"""Gradient descent on matrices under a constraint, as a plain torch optimizer."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_ssl_theory.checks import InputError, check_instance, check_positive
from lightning_ssl_theory.manifolds.orthonormal_steps import check_constrained, orthonormal_step

Constraint = Literal["grassmann", "stiefel", "polar", "frobenius", "none"]
"""What a step keeps: W^T W = I in three ways, the Frobenius norm, or nothing."""


def check_constraint(constraint: str) -> None:
    """Raise unless a constraint is known.

    Args:
        constraint: The name to look at.

    Raises:
        InputError: If there is no constraint of that name.
    """
    if constraint not in get_args(Constraint):
        raise InputError(
            f"Expected `constraint` to be one of {', '.join(get_args(Constraint))}, "
            f"got {constraint!r}; choose one."
        )


class ConstrainedSGD(Optimizer):
    r"""Gradient descent that keeps every matrix within its constraint, without momentum.

    =========== ==================================================================================
    constraint  step from W with gradient G
    =========== ==================================================================================
    "grassmann" QR retraction of :math:`W - lr\,(G - W W^\top G)`
    "stiefel"   QR retraction of :math:`W - lr\,(G - W\,\mathrm{sym}(W^\top G))`
    "polar"     polar projection of :math:`W - lr\,G`
    "frobenius" :math:`W - lr\,G`, scaled down to the Frobenius norm of orthonormal columns
    "none"      :math:`W - lr\,G`
    =========== ==================================================================================

    The first three keep orthonormal columns. As lr goes to 0, "stiefel" and "polar" follow the same flow and
    "grassmann" its own; their time is the sum of the learning rates. "frobenius" keeps
    :math:`\|W\|_F^2 \le \min(H, D)`, which does not prevent collapse. A matrix with fewer rows than columns (the
    weight of an `nn.Linear` that narrows) gets orthonormal rows. There is no state beside the weights. A step
    costs O(H D^2) time a matrix.

    Args:
        params: Matrices of dtype float32 or float64 (any tensors with "none"), or groups of them.
        lr: Learning rate, > 0.
        constraint: See the table.

    Raises:
        InputError: If the constraint is unknown, `lr` is not positive, or a parameter is no such matrix.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([[1.0], [0.0]]))
        >>> optimizer = ConstrainedSGD([weight], lr=0.75)
        >>> weight.grad = torch.tensor([[5.0], [-1.0]])
        >>> optimizer.step()
        >>> [round(value, 4) for value in weight.flatten().tolist()]
        [0.8, 0.6]
    """

    def __init__(self, params: Any, lr: float, *, constraint: Constraint = "stiefel") -> None:
        check_positive(lr, "lr")
        check_instance(params, "params", Iterable)
        super().__init__(params, {"lr": lr, "constraint": constraint})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own learning rate or constraint, as every torch optimizer does.

        Args:
            param_group: `params`, and what differs from the defaults.

        Raises:
            InputError: As the class does.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        check_constraint(group["constraint"])
        for parameter in group["params"]:
            if group["constraint"] != "none":
                check_constrained(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient.

        Args:
            closure: Evaluates the model anew and returns the loss.

        Returns:
            The closure's loss, or `None`.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.copy_(_moved(parameter, parameter.grad, group["lr"], group["constraint"]))
        return loss


def _moved(weight: Tensor, gradient: Tensor, lr: float, constraint: Constraint) -> Tensor:
    if constraint == "none":
        return weight - lr * gradient
    if constraint == "frobenius":
        return _into_ball(weight - lr * gradient)
    return orthonormal_step(weight, -lr * gradient, constraint)


# The nearest matrix (H, D) whose Frobenius norm is at most that of an orthonormal one, sqrt(min(H, D)).
def _into_ball(matrix: Tensor) -> Tensor:
    radius = min(matrix.shape) ** 0.5
    return matrix * (radius / torch.linalg.matrix_norm(matrix).clamp(min=radius))
