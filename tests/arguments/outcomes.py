"""What a call with a wrong argument comes to."""

import re
import signal
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

CLEAR, CONFUSING, DEEP, SHOWN, SILENT, ENDLESS = (
    "clear",
    "confusing",
    "deep traceback",
    "shown",
    "silent",
    "endless",
)
_ROOT = Path(__file__).parents[2]
_OWN = (_ROOT / "lightning_ssl_theory", _ROOT / "callbacks")


class _TooLongError(BaseException):
    pass


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise in a call that does not end."""

    def stop(*_: Any) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(
    call: Callable[..., Any],
    arguments: dict[str, Any],
    name: str,
    *,
    others: Collection[str],
    seconds: float = 20,
) -> tuple[str, str]:
    """One of six words, and the sentence or what was returned.

    A sentence is clear where a ValueError or TypeError raised in this library says what was expected and what was
    found, and has the name of the argument, or of another that it does not fit. A number that is not finite is shown
    where a result is not finite either.
    """
    try:
        with time_limit(seconds):
            found = call(**arguments)
    except _TooLongError:
        return ENDLESS, ""
    except Exception as error:
        last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        sentence = f"{type(error).__name__}: {error}"
        if not any(folder in last.parents for folder in _OWN):
            return DEEP, sentence
        names = [name] * bool(re.search(rf"\b{name}\b", str(error))) + re.findall(r"`(\w+)", str(error))
        is_clear = (
            isinstance(error, ValueError | TypeError)
            and re.match("Expected .*(got|found|it does not|chooses none)", str(error), re.DOTALL)
            and (name in names or any(other in others for other in names))
        )
        return (CLEAR if is_clear else CONFUSING), sentence
    numbers = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
    is_shown = not all(bool(torch.isfinite(part).all()) for part in numbers)
    return (SHOWN if is_shown else SILENT), repr(found)[:100]
