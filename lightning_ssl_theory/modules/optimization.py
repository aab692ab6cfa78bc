"""What the optimiser of a module trains, in which groups, and the scheduler beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from lightning_ssl_theory.checks import InputError, check_callable, check_flag, check_word
from lightning_ssl_theory.manifolds import keep_orthonormal
from lightning_ssl_theory.modules.cosine_warmup import set_steps_of_trainer

SchedulerInterval = Literal["epoch", "step"]
"""What a learning rate scheduler counts."""

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)  # batch and instance norms share the first


@dataclass(frozen=True)
class Optimization:
    """How a module is optimised: what its arguments of these names say.

    Attributes:
        optimizer: Parameters, or groups of them, to optimiser.
        scheduler: Optimiser to learning rate scheduler; None keeps the rate.
        scheduler_interval: What the scheduler counts.
        decay_norms_and_biases: As in `parameter_groups`.

    Raises:
        InputError: If one is of another kind.
    """

    optimizer: OptimizerCallable
    scheduler: LRSchedulerCallable | None = None
    scheduler_interval: SchedulerInterval = "epoch"
    decay_norms_and_biases: bool = True

    def __post_init__(self) -> None:
        check_callable(self.optimizer, "optimizer")
        check_callable(self.scheduler, "scheduler", or_none=True)
        check_word(self.scheduler_interval, "scheduler_interval", SchedulerInterval)
        check_flag(self.decay_norms_and_biases, "decay_norms_and_biases")

    def configured(
        self, module: LightningModule, following: Callable[[torch.optim.Optimizer], None] | None = None
    ) -> Any:
        """The optimiser of a module's parameters that are not frozen, which keeps orthonormal layers orthonormal.

        Args:
            module: what is trained.
            following: is told the optimiser.

        Returns:
            The optimiser, with its scheduler if there is one: what Lightning asks for.
        """
        optimizer = self.optimizer(
            parameter_groups(module, decay_norms_and_biases=self.decay_norms_and_biases)
        )
        keep_orthonormal(optimizer, module)
        if following is not None:
            following(optimizer)
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        set_steps_of_trainer(scheduler, module, self.scheduler_interval)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.scheduler_interval},
        }


def parameter_groups(module: nn.Module, *, decay_norms_and_biases: bool = True) -> list[Any]:
    """The parameters that an optimiser trains, each once, in the order of `module.parameters()`.

    Frozen ones (`requires_grad=False`) are left out, as Lightning's finetuning callbacks expect, which add them when
    they thaw them.

    Args:
        module: What is trained.
        decay_norms_and_biases: False makes two groups. The second has `weight_decay=0` and holds what shifts or scales
            features rather than mixing them: every parameter of at most one dimension, and all parameters of torch's
            normalisation layers, whatever their shape.

    Returns:
        Parameters, or with `decay_norms_and_biases=False` the groups that are not empty, each a dictionary.

    Raises:
        InputError: If all parameters are frozen; if they are to be told by their shape, and one has none yet, or a
            linear layer's or a convolution's weight has lost it, as under FSDP.

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm([2]))
        >>> [len(group["params"]) for group in parameter_groups(network, decay_norms_and_biases=False)]
        [1, 3]
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("Expected a parameter to train, got only frozen ones; call `requires_grad_(True)`.")
    if decay_norms_and_biases:
        return trained
    if any(is_lazy(parameter) for parameter in trained):
        raise InputError(
            "Expected parameters with shapes for decay_norms_and_biases=False, got a lazy layer; call the networks "
            "with a batch first."
        )
    _check_shapes(module)
    exempt = {
        id(parameter)
        for layer in module.modules()
        for parameter in layer.parameters(recurse=False)
        if parameter.ndim <= 1 or isinstance(layer, _NORMS)
    }
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in trained if id(parameter) not in exempt]},
        {"params": [parameter for parameter in trained if id(parameter) in exempt], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _check_shapes(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        weight = layer.weight if isinstance(layer, nn.Linear | _ConvNd) else None
        if isinstance(weight, torch.Tensor) and weight.ndim <= 1:
            raise InputError(
                f"Expected `{name}.weight` in its own shape, got {tuple(weight.shape)}, flattened as by FSDP; biases "
                "cannot be told from weights there, so keep decay_norms_and_biases=True."
            )
