"""When a diagnostic looks."""


class Cadence:
    """Every n optimiser steps or every n epochs.

    A look is due when the number of completed periods has grown, so that several optimisers, gradient accumulation
    and a resumed run neither repeat nor lose one.

    Args:
        every_n_steps: Period in optimiser steps.
        every_n_epochs: Period in epochs; 1 where neither is given.

    Raises:
        ValueError: If both are given or one is below 1.
    """

    def __init__(self, every_n_steps: int | None, every_n_epochs: int | None) -> None:
        if every_n_steps is not None and every_n_epochs is not None:
            raise ValueError(
                f"Expected one of `every_n_steps` and `every_n_epochs`, got {every_n_steps} and {every_n_epochs}; "
                "leave one out."
            )
        for name, value in (("every_n_steps", every_n_steps), ("every_n_epochs", every_n_epochs)):
            if value is not None and value < 1:
                raise ValueError(
                    f"Expected `{name}` of at least 1, got {value}; leave the callback out to never look."
                )
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs if every_n_steps or every_n_epochs else 1
        self.last_step = 0

    def is_step_due(self, global_step: int) -> bool:
        """Whether a period of steps has been completed since the last look."""
        period = self.every_n_steps
        return period is not None and global_step // period > self.last_step // period

    def is_epoch_due(self, epoch: int) -> bool:
        """Whether the epoch with this index, from 0, ends a period."""
        return self.every_n_epochs is not None and (epoch + 1) % self.every_n_epochs == 0
