"""What the table of networks says of each, and how its views are made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

NUM_SAMPLES, NUM_CLASSES = 6, 3
Inputs = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """A network that is not ours, and the one thing that its user has to say.

    Attributes:
        name: Of the test.
        build: Makes the network, small and untrained.
        inputs: Makes one view of N samples: a tensor, or a dictionary of tensors that are its keywords.
        special: What is unusual, in one line.
        output: What enters the loss: the key or index of what comes out, or a function of it; `None` for all.
        read_batch: Makes a batch that the library knows, where it would take the user's own for another one.
        arguments: Further arguments of CovarianceOperators.
        least_share: The smallest `covariance/weight_share` that will do.
        tolerance: Of trace and growth, relative.
        keeps_zeros: Whether matrices that begin at zero stay so.
        is_random: Whether the forward pass draws in evaluation mode too, so that no oracle knows its numbers.
        in_ci: Whether it runs by default; the others by `--all-architectures`.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[Generator], Inputs]
    special: str
    output: Callable[[Any], Tensor] | str | int | None = None
    read_batch: Callable[[Any], Any] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    least_share: float = 0.5
    tolerance: float = 1e-6
    keeps_zeros: bool = False
    is_random: bool = False
    in_ci: bool = False

    def read(self, found: Any) -> Tensor:
        """What enters the loss, of what the network puts out."""
        if callable(self.output):
            return self.output(found)
        return found if self.output is None else found[self.output]


def images(size: int = 32, channels: int = 3) -> Callable[[Generator], Tensor]:
    """Images (N, channels, size, size)."""
    return lambda generator: torch.randn(NUM_SAMPLES, channels, size, size, generator=generator)


def sequences(length: int, features: int) -> Callable[[Generator], Tensor]:
    """Sequences (N, length, features)."""
    return lambda generator: torch.randn(NUM_SAMPLES, length, features, generator=generator)


def keyword(name: str, inputs: Callable[[Generator], Tensor]) -> Callable[[Generator], Inputs]:
    """The same inputs, passed by keyword."""
    return lambda generator: {name: inputs(generator)}


def tokens(generator: Generator, *, length: int = 7, vocabulary: int = 30) -> dict[str, Tensor]:
    """Token ids, the last two of every third sample masked."""
    ids = torch.randint(4, vocabulary, (NUM_SAMPLES, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[::3, -2:] = 0
    return {"input_ids": ids, "attention_mask": mask}
