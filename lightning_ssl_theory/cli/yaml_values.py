"""Tensors in a YAML file: nested lists, or the path of a file."""

from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import register_type
from torch import Tensor

from lightning_ssl_theory.checks import InputError


def register_tensors() -> None:
    """Let an argument that is a tensor be given as nested lists, or as the path of a .pt or .npy file."""
    register_type(
        torch.Tensor, Tensor.tolist, tensor_of, type_check=lambda value, _: isinstance(value, Tensor)
    )


def tensor_of(value: Any) -> Tensor:
    """A tensor given in YAML.

    Args:
        value: Nested lists of numbers, or the path of a file.

    Returns:
        The tensor, of the default floating type where it was given by lists.

    Raises:
        InputError: If it is neither, or the file holds something else.

    Example:
        >>> tensor_of([[1, 0], [0, 1]])
        tensor([[1., 0.],
                [0., 1.]])
    """
    if isinstance(value, str):
        return _loaded(Path(value))
    try:
        return torch.tensor(value, dtype=torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"Expected a tensor as nested lists of numbers or the path of a file, got {str(value)[:80]!r}; "
            "give lists of one length."
        ) from error


def _loaded(path: Path) -> Tensor:
    try:
        if path.suffix == ".npy":
            import numpy as np

            return torch.from_numpy(np.load(path, allow_pickle=False))
        found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch and numpy raise many kinds
        raise InputError(
            f"Expected a tensor in the file `{path}`, found: {' '.join(str(error).split())[:120]}; write it with "
            "torch.save, or numpy.save."
        ) from error
    if not isinstance(found, Tensor):
        raise InputError(
            f"Expected a tensor in the file `{path}`, found {type(found).__name__}; save the tensor alone."
        )
    return found
