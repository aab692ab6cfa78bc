"""Networks one after the other, and whose output it is that the next one refuses."""

from typing import Any

from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.data.batch_formats import described


def in_turn(inputs: Any, **networks: nn.Module) -> Any:
    """What networks make of inputs, each of what the one before it puts out.

    Args:
        inputs: A view, or the clean images, of a batch.
        **networks: By what a user calls them, in their order.

    Returns:
        What the last one puts out.

    Raises:
        InputError: If a network refuses what is no tensor, such as the output object or tuple of a backbone.
        AttributeError: What a network raises on a tensor.
        TypeError: See above.

    Example:
        >>> import torch
        >>> in_turn(torch.tensor([-1.0, 2.0]), first=nn.ReLU(), second=nn.Identity())
        tensor([0., 2.])
    """
    before = None
    for name, network in networks.items():
        try:
            outputs = network(inputs)
        except (AttributeError, TypeError) as error:
            if isinstance(inputs, Tensor):
                raise
            source = f"`{before}` puts out" if before else "a batch holds"
            advice = (
                f"`{before}` in a module that returns one tensor" if before else "it in a module that does"
            )
            raise InputError(
                f"Expected `{name}` to take what {source}, {described(inputs)}, got {type(error).__name__}: "
                f"{str(error).rstrip('.')}; wrap {advice}."
            ) from error
        before, inputs = name, outputs
    return inputs
