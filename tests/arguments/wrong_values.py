"""Values that an argument must not have, from its annotation and a right value of it."""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_ssl_theory.callbacks import Diagnostic

HUGE = 10**30

# where zero, a negative number, infinity or nothing at all is right
MAY_BE_ZERO = ["index", "seed"]
MAY_BE_NEGATIVE = ["beta", "margin", "dropout_seed", "index"]
MAY_BE_INFINITE = ["max_norm"]
MAY_BE_EMPTY = {"names", "spectra_layers", "exact_growth", "top_k", "few_labels", "others"}

Wrong = tuple[str, Any]


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments of a public call; a callback's `**kwargs` are those of every diagnostic."""
    found = dict(inspect.signature(function).parameters)
    if inspect.isclass(function) and issubclass(function, Diagnostic):
        found = inspect.signature(Diagnostic).parameters | found
    return {name: one for name, one in found.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)}


def wrong_values(name: str, annotation: Any, right: Any) -> Iterator[Wrong]:
    """Kinds of mistakes with an argument, and a value of each."""
    options = _options(annotation)
    if isinstance(right, Tensor):
        yield from _wrong_tensors(right)
    elif Any in options:
        yield from {"type": 3, "none": None}.items()
    else:
        for one in options:
            yield from _wrong_of(name, one, options)
    if type(None) not in options and Any not in options:
        yield "none", None
    yield "complex", 1 + 1j


def _options(annotation: Any) -> tuple[Any, ...]:
    is_union = get_origin(annotation) not in (None, Literal, list, tuple, dict, type) and (
        get_origin(annotation).__module__ != "collections.abc"
    )
    return get_args(annotation) if is_union else (annotation,)


def _wrong_of(name: str, annotation: Any, options: tuple[Any, ...]) -> Iterator[Wrong]:
    origin, inner = get_origin(annotation) or annotation, get_args(annotation)
    if annotation is bool and len(options) == 1:
        yield from {"type": "yes", "number": 2, "nan": math.nan}.items()
    elif annotation is int and str not in options:
        yield from {"word": "three", "fraction": 1.5, "nan": math.nan, "huge": HUGE, "list": []}.items()
        yield from {} if name in MAY_BE_NEGATIVE else {"sign": -3}.items()
    elif annotation is float:
        yield from {"word": "half", "nan": math.nan, "list": []}.items()
        yield from {} if name in MAY_BE_INFINITE else {"huge": math.inf}.items()
        yield from {} if name in MAY_BE_NEGATIVE else {"sign": -1.0}.items()
    elif origin is Literal:
        words = [word for word in inner if isinstance(word, str)]
        yield from {"type": 3, "list": []}.items()
        yield from {"misspelt": words[0][:-1], "capital": words[-1].title()}.items() if words else ()
    elif annotation is str or annotation is nn.Module:
        may_be_class = any(get_origin(option) is type for option in options)
        yield from {"type": 3, "empty": "" if annotation is str else "linear"}.items()
        yield from {} if may_be_class else {"class": nn.Linear}.items()
    elif origin in _SEQUENCES:
        yield from _wrong_sequences(name, inner, options)
    elif annotation not in (bool, type(None)) and str not in options:
        wrong = {"type": 3, "word": "relu", "nan": math.nan}
        yield from (wrong | {"dataset": _DATA} if annotation is DataLoader else wrong).items()


_DATA = TensorDataset(torch.zeros(4, 2), torch.zeros(4))
_SEQUENCES = {list, tuple, Sequence}


def _wrong_tensors(right: Tensor) -> Iterator[Wrong]:
    yield from {"word": "features", "list": right.tolist(), "number": 3}.items()
    yield from {"complex dtype": right.to(torch.complex64), "order": right[None]}.items()
    yield "fewer dimensions", right[..., 0] if right.ndim else right[None, None]
    if right.is_floating_point():
        for kind, value in {"nan": math.nan, "infinite": math.inf}.items():
            yield kind, torch.cat([right.flatten()[:-1], right.new_tensor([value])]).reshape(right.shape)
    else:
        yield "sign", -right.long() - 1
        yield "dtype", right + 0.5
    if right.ndim:
        yield "empty", right[:0]


def _wrong_sequences(name: str, inner: tuple[Any, ...], options: tuple[Any, ...]) -> Iterator[Wrong]:
    yield from {} if {int, float} & set(options) else {"type": 3}.items()
    if name not in MAY_BE_EMPTY:
        yield "empty", []
    if inner[0] is str or str in _options(inner[0]):
        yield from {} if str in options else {"letters": "layer"}.items()
        yield from {"numbers": [3], "empty word": [""]}.items()
    elif inner[0] in (int, float):
        yield from {"letters": "12", "words": ["a"], "nan": [math.nan, 1], "sign": [-1, -2]}.items()
    elif inner[0] is Tensor:
        yield from {"numbers": [3, 4], "complex": [torch.zeros(2, dtype=torch.complex64)]}.items()
