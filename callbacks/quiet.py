"""That a look disturbs nothing, and what is said when it cannot be taken."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule

from lightning_ssl_theory.tracing.plain_torch import preserved_random_state

_LOGS: tuple[str, ...] = ("log", "log_dict")


@contextmanager
def undisturbed(pl_module: LightningModule) -> Iterator[None]:
    """Random states are as before, and what a forward logs in a look is not the user's curve."""
    with preserved_random_state(pl_module.device), _muted(pl_module):
        yield


def sentence(error: Exception) -> str:
    """What is said of an exception inside a look: one of ours as it is, any other by type and with what may help."""
    if isinstance(error, ValueError | TypeError) and str(error).startswith("Expected"):
        return str(error)
    return (
        f"Expected a look to run through, {type(error).__name__} was raised: {error}; pass `output=` that calls what "
        "takes the batch, `read_batch=` that gives what the network takes, or fewer `layers` or `num_samples`."
    )


@contextmanager
def _muted(pl_module: LightningModule) -> Iterator[None]:
    # by what they have, since modules of the package's old name are of another class
    modules = [module for module in pl_module.modules() if hasattr(module, "log_dict")]
    own = [{name: vars(module)[name] for name in _LOGS if name in vars(module)} for module in modules]
    for module in modules:
        vars(module).update(dict.fromkeys(_LOGS, _nothing))
    try:
        yield
    finally:
        for module, before in zip(modules, own, strict=True):
            for name in _LOGS:
                vars(module).pop(name, None)
            vars(module).update(before)


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None
