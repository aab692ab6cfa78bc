r"""A pass through a network that changes nothing of it, whatever its forward does to tensors.

Inside `frozen` every parameter, buffer and plain tensor attribute of the network is a stand-in, each object once and in
all its holders; modes, random states and attributes are put back afterwards. Autocast, compiled code, fused attention
and dropout are off. It is what every diagnostic looks through.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.tracing.inputs import Inputs, floating_dtype, in_precision, map_inputs
from lightning_ssl_theory.tracing.layer_kinds import takes_batch_statistics
from lightning_ssl_theory.tracing.network_output import Output, network_output
from lightning_ssl_theory.tracing.plain_torch import plain_torch, preserved_random_state

BatchStatistics = dict[tuple[str, int], tuple[Tensor, Tensor]]
"""Mean and variance (C,) that a BatchNorm layer uses, by the layer's path and the number of its call in a pass."""


def network_state(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Detached parameters and buffers of a network, floating ones in one dtype.

    Args:
        model: Any module.
        dtype: A floating dtype.

    Returns:
        The tensors by their names, each once. Those of that dtype share their memory with the network's.

    Raises:
        InputError: If a parameter is sharded over ranks or not initialised yet.
    """
    check_whole(model)
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise InputError(
                f"Expected initialised parameters, found the lazy {name!r}; "
                "run a batch through the network in `configure_model`."
            )
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    return {
        name: value.detach().to(dtype) if value.is_floating_point() else value.detach()
        for name, value in named
    }


def check_whole(model: nn.Module) -> None:
    """Raise InputError unless every rank holds every parameter whole, of Python modules."""
    name = _sharded(model)
    if name is not None:
        raise InputError(
            f"Expected parameters that every rank holds whole, found a part of {name!r}; "
            'use a strategy that does not shard parameters, such as strategy="ddp".'
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise InputError(
            "Expected a network of Python modules, found a TorchScript one; pass the module it was made from."
        )


def _sharded(model: nn.Module) -> str | None:
    # Both are asked: a layer may hold its parameters whole for a while, and the layer that shards may lie outside.
    for name, parameter in model.named_parameters():
        if any(hasattr(parameter, mark) for mark in ("device_mesh", "_fsdp_flattened", "ds_shape")):
            return name
    for name, module in model.named_modules():
        if any(base.__name__ in ("FSDPModule", "FullyShardedDataParallel") for base in type(module).__mro__):
            return name or type(module).__name__
    return None


@contextmanager
def frozen(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    batch_statistics: BatchStatistics | None = None,
    all_sum: AllSum = identity,
    dropout_seed: int | None = None,
    is_again: bool = False,
) -> Iterator[None]:
    """What runs inside, forward or backward, sees a state in place of the network's own tensors and leaves no trace.

    Args:
        model: Any module.
        state: Parameters and buffers by name; see `network_state`. They may be written to.
        batch_statistics: Makes BatchNorm layers in training mode use statistics of a batch, as constants: those in
            the dictionary, or else those of this very batch, of all ranks, which are put into it. Without it, and
            in evaluation mode, they use their running statistics.
        all_sum: Sum over ranks, for those statistics.
        dropout_seed: Leaves dropout and what else draws in training mode on, with draws from this seed.
        is_again: Whether a backward pass runs, which may compute parts of an earlier pass again.

    Yields:
        Nothing.
    """
    (device, *_) = {value.device for value in state.values()} or {torch.device("cpu")}
    statistics: BatchStatistics = {} if batch_statistics is None else batch_statistics
    held: list[tuple[str, nn.Module]] = []
    if batch_statistics is not None:
        held = [(name, module) for name, module in model.named_modules() if takes_batch_statistics(module)]
    handles = [
        module.register_forward_pre_hook(_hold(name, statistics, all_sum, is_again=is_again))
        for name, module in held
    ]
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        stack.enter_context(preserved_random_state(device))
        stack.enter_context(_stand_ins(model, state))
        for module in model.modules() if dropout_seed is None else (module for _, module in held):
            module.training = False
        if dropout_seed is not None:
            torch.manual_seed(dropout_seed)
        stack.enter_context(plain_torch(device))
        yield


@torch.inference_mode(False)
def frozen_call(
    model: nn.Module,
    inputs: Inputs,
    *,
    state: Mapping[str, Tensor] | None = None,
    output: Output = None,
    batch_statistics: BatchStatistics | None = None,
    all_sum: AllSum = identity,
    dropout_seed: int | None = None,
) -> Any:
    """Run a network once; its parameters, buffers, gradients, modes and the random state stay as they are.

    Args:
        model: Any module.
        inputs: (S, *input), or a dictionary of such tensors; floating ones are taken in the state's precision.
        state: Parameters and buffers to use instead of the network's, by name; see `network_state`.
        output: What to call instead, or what to choose of the output; see `network_output`.
        batch_statistics: See `frozen`.
        all_sum: Sum over ranks, for BatchNorm's statistics.
        dropout_seed: See `frozen`.

    Returns:
        What comes out, with a graph where `state` requires gradients. Memory of one more copy of the parameters.
    """
    state = network_state(model, floating_dtype(inputs, model)) if state is None else state
    with frozen(
        model,
        own_copies(state),
        batch_statistics=batch_statistics,
        all_sum=all_sum,
        dropout_seed=dropout_seed,
    ):
        return network_output(model, output)(ready(inputs, state))


@torch.inference_mode(False)
def weight_of(model: nn.Module, layer: nn.Module) -> Tensor | None:
    """The weight of a layer as a pass in evaluation mode would have it, computed ones included.

    Reading a computed weight may write to buffers, as spectral normalisation does; so it is read on stand-ins.

    Args:
        model: The network.
        layer: One of its modules.

    Returns:
        Detached, in float32 where it is coarser; `None` where the layer has none, or before it is initialised.
    """
    if any(nn.parameter.is_lazy(parameter) for parameter in model.parameters()):
        return None
    dtype = torch.float64 if torch.float64 in {value.dtype for value in model.parameters()} else torch.float32
    with torch.no_grad(), frozen(model, own_copies(network_state(model, dtype))):
        weight = getattr(layer, "weight", None)
    return weight.detach() if isinstance(weight, Tensor) else None


def own_copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with copies in place of the tensors that a forward may write to; leaves of a graph stay."""
    return {name: value if value.requires_grad else value.clone() for name, value in state.items()}


def ready(inputs: Inputs, state: Mapping[str, Tensor]) -> Any:
    """The inputs as a pass takes them: detached, usable in a graph, floating ones in the state's precision."""
    dtypes = {value.dtype for value in state.values() if value.is_floating_point()}
    plain = map_inputs(lambda value: value.clone() if value.is_inference() else value.detach(), inputs)
    return in_precision(plain, dtypes.pop()) if len(dtypes) == 1 else plain


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Every module inside is in evaluation mode, and then in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _stand_ins(model: nn.Module, state: Mapping[str, Tensor]) -> Iterator[None]:
    # Each parameter and buffer object once, in all its holders: torch's functional_call swaps an object that has two
    # names twice, and puts the stand-in back in place of the parameter.
    named = dict(itertools.chain(model.named_parameters(), model.named_buffers()))
    stand_ins = {id(named[name]): value for name, value in state.items()}
    # what modules take for a parameter, so that `self.key.bias += x` writes to the stand-in
    marked = [value for name, value in state.items() if isinstance(named[name], nn.Parameter)]
    marked = [value for value in marked if not isinstance(value, nn.Parameter)]
    dtype = next((value.dtype for value in state.values() if value.is_floating_point()), None)
    saved = [
        (module, dict(vars(module)), [dict(group) for group in _groups(module)])
        for module in list(model.modules())
    ]
    try:
        for value in marked:
            value._is_param = True
        for module, attributes, (parameters, buffers, _) in saved:
            for group, values in zip(_groups(module), (parameters, buffers), strict=False):
                group.update({name: stand_ins.get(id(value), value) for name, value in values.items()})
            vars(module).update({name: _stand_in(value, dtype) for name, value in attributes.items()})
        yield
    finally:
        for value in marked:
            del value._is_param
        for module, attributes, contents in saved:
            vars(module).clear()
            vars(module).update(attributes)
            for group, values in zip(_groups(module), contents, strict=True):
                group.clear()
                group.update(values)


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    return [module._parameters, module._buffers, module._modules]


def _stand_in(value: Any, dtype: torch.dtype | None) -> Any:
    # of a plain attribute: a tensor that a forward may write to, or the precision that it asks for
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        copy = value.detach().clone()
        return copy.to(dtype) if dtype is not None and copy.is_floating_point() else copy
    return (
        dtype if dtype is not None and isinstance(value, torch.dtype) and value.is_floating_point else value
    )


def _hold(
    name: str, statistics: BatchStatistics, all_sum: AllSum, *, is_again: bool
) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    calls = itertools.count()

    def hook(layer: nn.Module, args: tuple[Any, ...]) -> None:
        key = (name, next(calls))
        if is_again and (name, 1) in statistics:
            raise InputError(
                f"Expected the checkpointed layer {name!r} to run once in a pass, it ran several times; "
                "put it into evaluation mode, or do not checkpoint it."
            )
        if key not in statistics:
            statistics[key] = _mean_and_variance(args[0].detach(), all_sum)
        layer._buffers["running_mean"], layer._buffers["running_var"] = statistics[key]

    return hook


def _mean_and_variance(inputs: Tensor, all_sum: AllSum) -> tuple[Tensor, Tensor]:
    dims = [dim for dim in range(inputs.ndim) if dim != 1]
    sums = all_sum(torch.cat([inputs.sum(dims), inputs.new_tensor([inputs.numel() / inputs.shape[1]])]))
    mean, count = sums[:-1] / sums[-1], sums[-1]
    centred = inputs - mean.reshape(-1, *[1] * (inputs.ndim - 2))
    return mean, all_sum(centred.square().sum(dims)) / count
