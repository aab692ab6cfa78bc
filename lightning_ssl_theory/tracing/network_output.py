"""What of a network is looked at: `embed` or `forward`, a callable, or a part of what comes out."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError, described
from lightning_ssl_theory.tracing.inputs import Inputs, called_with

Output = Callable[..., Any] | str | int | None
"""A callable that is called instead of the network, or the key or index of what the network puts out."""


def network_output(model: nn.Module, output: Output = None) -> Callable[[Inputs], Any]:
    """The function from inputs to what is looked at.

    Args:
        model: Any module.
        output: A callable takes the network's place. A key or an index chooses from what `embed`, where the module
            has that method, else the module itself, puts out.

    Returns:
        The function; a dictionary of inputs goes in by keywords where the callee has them all.
    """
    check_output(output)
    if callable(output):
        return lambda inputs: called_with(output, inputs)
    embed = getattr(model, "embed", None)
    network = embed if inspect.ismethod(embed) else model
    if output is None:
        return lambda inputs: called_with(network, inputs)
    return lambda inputs: _part(called_with(network, inputs), output)


def check_is_tensor(found: Any, name: str = "the network") -> Tensor:
    """What came out, if it is one tensor.

    Args:
        found: Anything.
        name: What put it out.

    Returns:
        It.

    Raises:
        InputError: With the keys or the number of parts, and the argument that chooses one.
    """
    if isinstance(found, Tensor):
        return found
    raise InputError(f"Expected {name} to put out one tensor, got {_parts(found)}; choose one by `output=`.")


def _part(found: Any, output: str | int) -> Any:
    try:
        return found[output]
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"Expected `output` to be the key or index of what the network puts out, got {output!r} for "
            f"{_parts(found)}; choose one of them, or pass a callable."
        ) from error


def _parts(found: Any) -> str:
    kind = type(found).__name__
    if isinstance(found, Mapping):
        return f"{kind} with the keys {', '.join(repr(key) for key in found)}"
    if isinstance(found, Sequence) and not isinstance(found, str):
        return f"{kind} of {len(found)}"
    return kind


def check_output(output: Any) -> None:
    """Raise InputError unless `output` is a function, or the key or index of a part of what a network puts out."""
    if output is not None and (
        isinstance(output, type) or not (callable(output) or isinstance(output, str | int))
    ):
        raise InputError(
            f"Expected `output` to be a function, key or index, got {described(output)}; build one."
        )
