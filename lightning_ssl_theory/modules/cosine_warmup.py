"""The field's usual learning rate: a linear rise, then half a cosine down."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from lightning.pytorch import LightningModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_ssl_theory.checks import (
    InputError,
    check_callable,
    check_instance,
    check_integer,
    check_number,
)


class CosineWarmup(LRScheduler):
    r"""Learning rates times a factor of the step t = 0, 1, …: up to 1 in w steps, down to c at the last of T.

    .. math::
        \frac{t + 1}{w} \quad (t < w), \qquad
        c + (1 - c)\, \frac{1 + \cos(\pi\,(t - w) / (T - 1 - w))}{2} \quad (w \le t < T), \qquad c \quad (t \ge T)

    As `scheduler=` of this library's modules, with `scheduler_interval="step"`, T is what the Trainer will make, or its
    epochs with "epoch"; elsewhere pass it, or say by `take_steps_from` who knows. A resumed run goes on along the curve
    that it began with. A group of parameters that joins the optimizer later, as those that a finetuning callback thaws,
    goes on along the curve from the rate that it joins with.

    Args:
        optimizer: whose learning rates are scheduled.
        warmup_steps: w >= 0.
        total_steps: T > w; None to take it from the Trainer, in this library's modules.
        final_factor: c in [0, 1].

    Raises:
        InputError: a number is out of its range, or a step is taken that needs a T that is not known.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> scheduler, rates = CosineWarmup(optimizer, warmup_steps=2, total_steps=5), []
        >>> for _ in range(5):
        ...     rates.append(round(optimizer.param_groups[0]["lr"], 4))
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.5, 1.0, 1.0, 0.5, 0.0]

    References: I. Loshchilov, F. Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017, eq. 5;
    P. Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017, section 2.2.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int = 0,
        total_steps: int | None = None,
        *,
        final_factor: float = 0.0,
    ) -> None:
        check_instance(optimizer, "optimizer", Optimizer)
        check_integer(warmup_steps, "warmup_steps", at_least=0)
        check_number(final_factor, "final_factor", "[0, 1]")
        self.warmup_steps, self.final_factor = warmup_steps, final_factor
        check_integer(
            total_steps,
            "total_steps",
            at_least=warmup_steps + 1,
            advice="it counts all steps, those of the rise too",
            or_none=True,
        )
        self.total_steps = total_steps
        self._ask: Callable[[], int] | None = None
        super().__init__(optimizer)

    def take_steps_from(self, ask: Callable[[], int]) -> None:
        """Let T be asked for when it is needed first, after the first step.

        Args:
            ask: gives T; not called where T is known.
        """
        check_callable(ask, "ask")
        self._ask = ask

    def state_dict(self) -> dict[str, Any]:
        """Returns the state, T with it."""
        self._learn_steps()
        state = super().state_dict()
        del state["_ask"]
        return state

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Returns the learning rate of each group at the present step."""
        if self.last_epoch > 0:
            self._learn_steps()
        factor = self._factor(self.last_epoch)
        later = self.optimizer.param_groups[len(self.base_lrs) :]
        if not later:
            return [float(rate) * factor for rate in self.base_lrs]
        before = self._factor(self.last_epoch - 1)
        share = factor / before if before else 0.0
        return [float(rate) * factor for rate in self.base_lrs] + [
            float(group["lr"]) * share for group in later
        ]

    def _learn_steps(self) -> None:
        if self.total_steps is None and self._ask is not None:
            self.total_steps = self._ask()

    def _factor(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if step == self.warmup_steps and self.total_steps is None:
            return 1.0
        if self.total_steps is None:
            raise InputError(
                "Expected `total_steps` of CosineWarmup after the steps of its rise, got None; "
                "pass the number of steps."
            )
        num_steps = self.total_steps - 1 - self.warmup_steps
        share = 1.0 if step >= self.total_steps - 1 else (step - self.warmup_steps) / num_steps
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * share)) / 2


def set_steps_of_trainer(
    scheduler: object, module: LightningModule, interval: Literal["epoch", "step"]
) -> None:
    """Tell a `CosineWarmup` that does not know it how many steps a module's Trainer will make.

    A Trainer counts steps by its training loader. Were that made now, where optimisers are configured, a resumed run
    would not put it to its place in the epoch: so it is asked later.

    Args:
        scheduler: any; others are left alone.
        module: attached to the Trainer of the run.
        interval: what the scheduler counts.

    Raises:
        InputError: the Trainer has no end; where only its data say so, after the first step.
    """
    if not isinstance(scheduler, CosineWarmup) or scheduler.total_steps is not None:
        return
    ask = partial(_steps_of_trainer, module, interval)
    if interval == "step" and module.trainer.max_epochs != -1:
        scheduler.take_steps_from(ask)
    else:
        scheduler.total_steps = ask()


def _steps_of_trainer(module: LightningModule, interval: Literal["epoch", "step"]) -> int:
    trainer = module.trainer
    total = trainer.estimated_stepping_batches if interval == "step" else trainer.max_epochs
    if total is None or not 0 < total < math.inf:
        raise InputError(
            f"Expected a Trainer with an end in {interval}s, got none for CosineWarmup; pass max_epochs= to the "
            "Trainer or total_steps= to the scheduler."
        )
    return int(total)  # a trial of a few steps may end within the rise
