"""A forward pass that keeps what passes through the weights of a network, seen at the torch functions they enter."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.tracing.frozen_call import BatchStatistics, frozen, network_state, own_copies, ready
from lightning_ssl_theory.tracing.inputs import Inputs, floating_dtype
from lightning_ssl_theory.tracing.layer_kinds import Dense, WeightUse, weight_use
from lightning_ssl_theory.tracing.layer_names import WeightPlace
from lightning_ssl_theory.tracing.network_output import Output, check_is_tensor, network_output

_IN_PLACE = ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__setitem__")


class Passage(NamedTuple):
    """One passage through a weight: what the weight saw, and what came out, in the graph."""

    use: WeightUse
    outputs: Tensor


class WeightRecorder(TorchFunctionMode):
    """While it is active, every passage through some weights is kept; nothing else changes.

    It sees functions, not modules, so that a layer of any class, called in any way, is seen as it really works: after
    its own padding, before its own activation, with the weight that it computes. `F.multi_head_attention_forward` is
    taken apart into the four maps that it is. A weight that the network does not train is a leaf that requires
    gradients here, and may be written to all the same.

    Args:
        weights: Leaves of the graph, by the names of the parameters.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {id(weight): name for name, weight in weights.items()}
        self.passages: dict[WeightPlace, list[Passage]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, and keep what a weight saw."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            return self._attention(func, args, kwargs)
        if self._is_write(func, args, kwargs):
            with torch.no_grad():
                return func(*args, **kwargs)
        outputs = func(*args, **kwargs)
        if isinstance(outputs, Tensor):
            use = weight_use(func, args, kwargs, self._names)
            if use is not None:
                return self._keep(WeightPlace(self._names[id(use.weight)]), use, outputs)
        return outputs

    def _is_write(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        # Of what has no graph into weights, in place; autograd refuses it where they require gradients.
        name = getattr(func, "__name__", "")
        if "out" in kwargs:
            targets = _tensors([kwargs["out"]])
        elif args and (name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))):
            targets = _tensors([args[0]])
        else:
            return False
        weights = {id(target) for target in targets} & self._names.keys()
        others = [value for value in _tensors([*args, *kwargs.values()]) if id(value) not in weights]
        return bool(weights) and not any(other.requires_grad for other in others)

    def _keep(self, place: WeightPlace, use: WeightUse, outputs: Tensor) -> Tensor:
        self.passages.setdefault(place, []).append(Passage(use, outputs))
        return outputs.clone()  # an in-place activation that follows changes the clone only

    def _attention(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        # The projections are made here, and the function gets identities in their place.
        bound = inspect.signature(func).bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        size = given["query"].shape[-1]
        joint, biases = given["in_proj_weight"], given["in_proj_bias"]
        for number, (name, part) in enumerate((("query", "q"), ("key", "k"), ("value", "v"))):
            bias = None if biases is None else biases[number * size : (number + 1) * size]
            if given["use_separate_proj_weight"]:
                weight = given[f"{part}_proj_weight"]
                place = WeightPlace(self._names.get(id(weight), ""))
            else:
                weight = joint[number * size : (number + 1) * size]
                place = WeightPlace(self._names.get(id(joint), ""), number)
            given[name] = self._linear(place, given[name], weight, bias)
        identity = torch.eye(size, dtype=given["query"].dtype, device=given["query"].device)
        given |= {"in_proj_weight": None, "in_proj_bias": None, "use_separate_proj_weight": True}
        given |= {f"{part}_proj_weight": identity for part in "qkv"}
        weight, bias = given["out_proj_weight"], given["out_proj_bias"]
        given |= {"out_proj_weight": identity, "out_proj_bias": None}
        mixed, attention = func(*bound.args, **bound.kwargs)
        return self._linear(WeightPlace(self._names.get(id(weight), "")), mixed, weight, bias), attention

    def _linear(self, place: WeightPlace, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        outputs = F.linear(inputs, weight, bias)
        if not place.key:
            return outputs
        return self._keep(place, WeightUse(weight, bias, inputs.detach(), Dense(weight.shape)), outputs)


class Pass(NamedTuple):
    """A forward pass with its graph, before anything is known of its layers."""

    outputs: Tensor
    passages: dict[WeightPlace, list[Passage]]
    leaves: dict[str, Tensor]
    again: Callable[[], AbstractContextManager[None]]


def recorded_pass(
    model: nn.Module,
    inputs: Inputs,
    keys: Sequence[str],
    *,
    output: Output = None,
    state: Mapping[str, Tensor] | None = None,
    batch_statistics: BatchStatistics | None = None,
    all_sum: AllSum = identity,
    dropout_seed: int | None = None,
) -> Pass:
    """Run the network once and keep every passage through some of its parameters.

    Args:
        model: Any module; nothing of it is changed.
        inputs: (S, *input), or a dictionary of such tensors.
        keys: Names of the parameters.
        output: See `network_output`.
        state: Parameters and buffers to use instead of the network's.
        batch_statistics: See `frozen`; an empty dictionary by default.
        all_sum: Sum over ranks, for BatchNorm's statistics.
        dropout_seed: See `frozen`.

    Returns:
        The pass, whatever comes out of it.
    """
    state = network_state(model, floating_dtype(inputs, model)) if state is None else state
    copies = own_copies(state)
    leaves = {key: copies[key].detach().requires_grad_() for key in keys}
    copies |= leaves
    inside = partial(
        frozen,
        model,
        copies,
        batch_statistics={} if batch_statistics is None else batch_statistics,
        all_sum=all_sum,
        dropout_seed=dropout_seed,
    )
    with torch.enable_grad(), inside(), WeightRecorder(leaves) as recorder:
        outputs = network_output(model, output)(ready(inputs, copies))
    return Pass(outputs, recorder.passages, leaves, partial(inside, is_again=True))


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    flat = [part for value in values for part in (value if isinstance(value, list | tuple) else [value])]
    return [value for value in flat if isinstance(value, Tensor)]


def part_of(leaf: Tensor, place: WeightPlace) -> Tensor:
    """The weight of a place, in the parameter that holds it or in something of its shape."""
    return leaf if place.part is None else leaf.chunk(3)[place.part]


def check_outputs(outputs: Tensor, rows: int) -> None:
    """Raise unless a network's outputs are of shape (rows, n_L)."""
    outputs = check_is_tensor(outputs)
    if outputs.ndim != 2 or len(outputs) != rows:
        raise InputError(
            f"Expected the network's output of shape (N, D), for {rows} inputs ({rows}, D), "
            f"got {tuple(outputs.shape)}; "
            "pass `output=` that flattens or pools."
        )
