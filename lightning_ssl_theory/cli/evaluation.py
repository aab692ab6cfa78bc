"""What `validate` and `test` end with: every value by its whole name, and who had nothing to look at."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from lightning.pytorch import Trainer

from lightning_ssl_theory import callbacks


def value_lines(found: Sequence[Mapping[str, float]]) -> list[str]:
    """Names and values in two columns, that can be searched and are not cut.

    Args:
        found: The values of each loader.

    Returns:
        A line each.

    Example:
        >>> value_lines([{"val/loss": 0.25, "a": 1234567.0}])
        ['a         1.235e+06', 'val/loss  0.25']
    """
    values = {name: value for loader in found for name, value in loader.items()}
    width = max(map(len, values), default=0)
    return [f"{name:<{width}}  {values[name]:.4g}" for name in sorted(values)]


def silent_diagnostics(trainer: Trainer, command: Literal["validate", "test"]) -> Iterator[str]:
    """A sentence for each diagnostic that has logged nothing.

    Args:
        trainer: After it has run.
        command: What it ran.

    Yields:
        The sentences, which say why.
    """
    diagnostics = [one for one in vars(trainer)["callbacks"] if isinstance(one, callbacks.Diagnostic)]
    if command == "test" and diagnostics:
        yield "Diagnostics logged nothing: they look in `fit` and `validate`, not in `test`."
        return
    for diagnostic in diagnostics:
        name = type(diagnostic).__name__
        if diagnostic.looks_at_training:  # its values are those of a checkpoint
            yield f"{name} logged nothing: it looks at training batches, of which `validate` has none; use `fit`."
        elif not diagnostic.values:
            yield f"{name} logged nothing: the warning above says why."
