"""Many independent trainings, one process on every core."""

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed
from rich.console import Console
from rich.progress import track

from lightning_ssl_theory.checks import check_positive

Result = TypeVar("Result")


def run_trials(
    function: Callable[..., Result],
    trials: Sequence[tuple[Any, ...]],
    *,
    num_processes: int | None = None,
    description: str = "training",
) -> list[Result]:
    """Call a function once for every trial, in several processes, with a progress bar on stderr and a silent Lightning.

    Args:
        function: What to call; it should draw its random numbers from seeds among its arguments, so that results do
            not depend on the process.
        trials: The arguments of each call; they and the results travel between processes.
        num_processes: 1 makes the calls in this process; one for each core by default.
        description: Stands before the progress bar.

    Returns:
        The results, in the order of the trials.

    Raises:
        InputError: If `num_processes` is not positive.
        Exception: Whatever the function raises.

    Example:
        >>> run_trials(pow, [(2, 3), (3, 2)], num_processes=1)
        [8, 9]
    """
    if num_processes is not None:
        check_positive(num_processes, "num_processes")
    workers = Parallel(n_jobs=num_processes or cpu_count(), return_as="generator")
    results = workers(delayed(_quietly)(function, trial) for trial in trials)
    return list(track(results, description, total=len(trials), console=Console(stderr=True)))


def _quietly(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")  # a prefix: not ours
            return function(*arguments)
    finally:
        logger.setLevel(level)
