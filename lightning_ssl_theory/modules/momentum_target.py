"""A target network whose weights are an exponential moving average of the trained network's."""

import math
import warnings
import weakref
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Literal, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.hooks import RemovableHandle

from lightning_ssl_theory.checks import InputError

EMASchedule = Literal["constant", "cosine"]
"""Whether the momentum of a target stays, or rises to 1 along half a cosine over the steps of the training."""

Owner = TypeVar("Owner", bound=LightningModule)


def frozen_copies(backbone: nn.Module, projector: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Copies of two networks as they are now, without gradients; what the two share, the copies share.

    Args:
        backbone: A network.
        projector: The network behind it.

    Returns:
        The copies. Since no parameter asks for a gradient, optimisers and DistributedDataParallel leave them alone.

    Raises:
        InputError: If a parameter has no shape yet, or a network cannot be copied.
    """
    if any(is_lazy(parameter) for network in (backbone, projector) for parameter in network.parameters()):
        raise InputError(
            "Expected networks with weights to copy, got a lazy layer in `backbone` or `projector`; "
            "call them with a batch first."
        )
    try:
        copies: tuple[nn.Module, nn.Module] = deepcopy((backbone, projector))
    except Exception as error:  # whatever a network that was not made for this raises
        raise InputError(
            f"Expected `backbone` and `projector` to be copied for the target network, got {type(error).__name__}: "
            f"{error}; pass networks that copy.deepcopy takes."
        ) from error
    for copy in copies:
        copy.requires_grad_(False)
    return copies


@torch.no_grad()
def follow_(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Move a target's parameters towards those of the trained network, each once: t <- m t + (1 - m) o, in place.

    Buffers stay the target's own: its BatchNorm, in training mode, keeps the statistics of its own passes.

    Args:
        target: Its copy of earlier.
        online: The trained network.
        momentum: m in [0, 1]; with 0 the target is the network itself, with 1 it never moves.

    Raises:
        InputError: If one has parameters that the other has not.

    Warns:
        UserWarning: If the parameters are in half precision, which has not the digits for a moving average.

    Example:
        >>> target, online = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        >>> target.weight.data, online.weight.data = torch.tensor([[1.0]]), torch.tensor([[3.0]])
        >>> follow_(target, online, 0.75)
        >>> target.weight.item()
        1.5
    """
    moved, fixed = list(target.parameters()), list(online.parameters())
    if [parameter.shape for parameter in moved] != [parameter.shape for parameter in fixed]:
        raise InputError(
            f"Expected the trained network to have the parameters that its target was copied from, got {len(fixed)} "
            f"and {len(moved)} of them, or other shapes; change `backbone` and `projector` before the module is built."
        )
    if 0 < momentum < 1 and any(parameter.dtype.itemsize < 4 for parameter in moved):
        warnings.warn(  # shown once, by Python's default
            f"Expected weights of at least 32 bits for a moving average, got {moved[0].dtype}: steps of "
            f"{1 - momentum:.2g} of the way to the trained network are lost to rounding, and the target hardly moves; "
            'train with precision="bf16-mixed" or "16-mixed".',
            stacklevel=2,
        )
    if moved:
        get_ema_multi_avg_fn(momentum)(moved, fixed, 0)


def move_target_(module: LightningModule, momentum: float) -> None:
    """Let `target_backbone` and `target_projector` follow `backbone` and `projector`; what two share moves once."""
    targets: list[nn.Module] = [module.target_backbone, module.target_projector]  # type: ignore[list-item]
    networks: list[nn.Module] = [module.backbone, module.projector]  # type: ignore[list-item]
    follow_(nn.ModuleList(targets), nn.ModuleList(networks), momentum)


def momentum_now(trainer: Trainer | None, momentum: float, schedule: EMASchedule) -> float:
    """The momentum of the step that a trainer makes.

    Args:
        trainer: Knows how many steps it has made, and makes in all; None in a loop of one's own.
        momentum: That of the first step.
        schedule: Whether it stays or rises.

    Returns:
        The momentum.

    Raises:
        InputError: If it is to rise and the training has no known end.
    """
    if schedule == "constant":
        return momentum
    num_steps = math.inf if trainer is None else trainer.estimated_stepping_batches
    if trainer is None or num_steps == math.inf:
        raise InputError(
            'Expected a Trainer that knows the number of its steps for ema_schedule="cosine", got '
            f"{'none' if trainer is None else 'an endless one'}; pass max_epochs or max_steps to a Trainer."
        )
    # a trainer counts the steps of all optimisers, up to `max_steps`, but batches where epochs bound it
    every = 1 if num_steps == trainer.max_steps else max(len(trainer.optimizers), 1)
    return cosine_momentum(momentum, trainer.global_step // every, int(num_steps))


def cosine_momentum(momentum: float, step: int, num_steps: int) -> float:
    r"""Momentum that rises from its first value to 1 along half a cosine: 1 - (1 - m)(cos(pi k / K) + 1) / 2.

    Args:
        momentum: m, at the first step.
        step: k, number of steps made.
        num_steps: K, number of steps in all.

    Returns:
        The momentum, 1 from step K on.

    References:
        Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", 2020, section 3.3.

    Example:
        >>> [cosine_momentum(0.5, step, 4) for step in (0, 2, 4)]
        [0.5, 0.75, 1.0]
    """
    share = min(step / num_steps, 1.0)
    return 1 - (1 - momentum) * (math.cos(math.pi * share) + 1) / 2


class AfterEveryStep:
    """Calls a function after every step of an optimiser that has changed weights.

    That is once a step however many batches it accumulates, under automatic and under manual optimisation, and not
    after a step that a gradient scaler skips. A copy calls nothing until it is started.
    """

    def __init__(self) -> None:
        self._handle: RemovableHandle | None = None
        self._optimizer: Callable[[], torch.optim.Optimizer | None] = _none
        self._has_warned = False

    def __getstate__(self) -> dict[str, Any]:
        # the handle would take the optimiser's hooks along into a copy or a file
        return {"_handle": None, "_optimizer": _none, "_has_warned": self._has_warned}

    def start(
        self, function: Callable[[Owner], None], module: Owner, optimizer: torch.optim.Optimizer
    ) -> None:
        """Call the function, with the module, after each step of this optimiser from now on, and of no other."""
        if self._optimizer() is optimizer:
            return

        def hook(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            found_inf = getattr(optimizer, "found_inf", None)  # fused optimisers skip the step themselves
            if found_inf is None or not found_inf:
                function(module)

        if self._handle is not None:
            self._handle.remove()
        self._handle = optimizer.register_step_post_hook(hook)
        self._optimizer = weakref.ref(optimizer)

    def start_with_trainer(self, function: Callable[[Owner], None], module: Owner) -> None:
        """Call it after the steps of the last optimiser of the trainer that trains a module.

        Where none does, as in a loop of one's own, what was started before goes on; if nothing was, this warns once.
        """
        trainer = module._trainer
        if trainer is not None and trainer.training:
            if trainer.optimizers:
                self.start(function, module, trainer.optimizers[-1])
        elif self._optimizer() is None and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"Expected an optimiser after whose steps the target of {type(module).__name__} moves, got none; "
                "outside of a Trainer take the one that `configure_optimizers()` gives.",
                stacklevel=3,
            )


def _none() -> None:
    return None
