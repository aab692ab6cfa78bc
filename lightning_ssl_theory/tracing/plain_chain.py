"""The layers of a network that is a plain chain: each takes what the one before puts out, and nothing else happens."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_ssl_theory.tracing.frozen_call import frozen, network_state, own_copies, ready
from lightning_ssl_theory.tracing.inputs import Inputs, floating_dtype
from lightning_ssl_theory.tracing.layer_names import find_module
from lightning_ssl_theory.tracing.network_output import Output, network_output


@torch.no_grad()
@torch.inference_mode(False)
def plain_chain(
    model: nn.Module,
    inputs: Inputs,
    layer: str = "",
    *,
    output: Output = None,
    state: Mapping[str, Tensor] | None = None,
) -> list[nn.Module] | None:
    """The innermost modules between the inputs and what a layer puts out, if they run one after another.

    What a forward does between two modules, an addition or a function of torch, makes a new tensor, so that the next
    module does not take what the one before it put out: that is no plain chain. Reshaping is one.

    Args:
        model: Any module; nothing of it is changed.
        inputs: A few rows.
        layer: Dotted path; `""` stands for the output of the whole call.
        output: What to call instead, or what to choose of the output; see `network_output`.
        state: Parameters and buffers to use instead of the network's.

    Returns:
        The modules in their order, `None` where the network is none or does not reach the layer.
    """
    state = network_state(model, floating_dtype(inputs, model)) if state is None else state
    recorder = _Recorder()
    handles = recorder.hooks(model)
    if layer:
        handles.append(find_module(model, layer).register_forward_hook(recorder.end))
    try:
        with frozen(model, own_copies(state)):
            given = ready(inputs, state)
            recorder.start = _place(given)
            found = network_output(model, output)(given)
    finally:
        for handle in handles:
            handle.remove()
    if not layer:
        recorder.end(model, (), found)
    return recorder.chain()


class _Place(NamedTuple):
    """Which numbers a tensor holds: where they lie, how many, and after how many changes; held, or it is used again."""

    pointer: int
    size: int
    version: int
    tensor: Tensor

    def is_same(self, other: "_Place | None") -> bool:
        return other is not None and self[:3] == other[:3]


def _place(value: Any) -> _Place | None:
    if not isinstance(value, Tensor):
        return None
    return _Place(value.data_ptr(), value.numel(), value._version, value)


class _Recorder:
    """What the innermost modules of a pass took and gave, up to what a layer puts out."""

    def __init__(self) -> None:
        self.start: _Place | None = None
        self._ends: list[_Place | None] = []
        self._taken: dict[nn.Module, _Place | None] = {}
        self._calls: list[tuple[nn.Module, _Place | None, _Place | None]] = []

    def hooks(self, model: nn.Module) -> list[Any]:
        inner = [module for module in model.modules() if not any(module.children())]
        before = [module.register_forward_pre_hook(self._enter) for module in inner]
        return before + [module.register_forward_hook(self._leave) for module in inner]

    def end(self, module: nn.Module, arguments: tuple[Any, ...], found: Any) -> None:
        self._ends.append(_place(found))

    def chain(self) -> list[nn.Module] | None:
        place = self.start
        for _, taken, given in self._calls:
            if place is None or not place.is_same(taken):
                return None
            place = given
        is_reached = len(self._ends) == 1 and place is not None and place.is_same(self._ends[0])
        return [module for module, *_ in self._calls] if is_reached else None

    def _enter(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._taken[module] = _place(arguments[0]) if len(arguments) == 1 else None

    def _leave(self, module: nn.Module, arguments: tuple[Any, ...], found: Any) -> None:
        if not self._ends:
            self._calls.append((module, self._taken.pop(module), _place(found)))
