r"""A forward pass of a network that changes nothing of it.

The pass runs on detached parameters and cloned buffers (`torch.func.functional_call`), without autocast and without
compiled code, dropout off, modes and random states restored. It is what every diagnostic looks through.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_ssl_theory.distributed import AllSum, identity

Tap = Callable[[nn.Module, Tensor, Tensor], Tensor | None]
"""Called with a layer, its input and its output; a tensor that it returns goes on in place of the output."""

BatchStatistics = dict[tuple[str, int], tuple[Tensor, Tensor]]
"""Mean and variance (C,) that a BatchNorm layer uses, by the layer's path and the number of its call in a pass."""


def network_state(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Detached parameters and cloned buffers of a network, floating ones in one dtype.

    Args:
        model: Any module.
        dtype: A floating dtype.

    Returns:
        The tensors by their names. Parameters of that dtype share their memory with the network's.
    """
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    buffers = {name: value.detach().clone() for name, value in model.named_buffers()}
    return {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in (parameters | buffers).items()
    }


@torch.inference_mode(False)
def frozen_call(
    model: nn.Module,
    inputs: Tensor,
    *,
    state: Mapping[str, Tensor] | None = None,
    output: Callable[[Tensor], Tensor] | None = None,
    taps: Mapping[str, Tap] | None = None,
    batch_statistics: BatchStatistics | None = None,
    all_sum: AllSum = identity,
) -> Tensor:
    """Run a network once; its parameters, buffers, gradients, modes and the random state stay as they are.

    Args:
        model: Any module.
        inputs: (S, *input).
        state: Parameters and buffers to use instead of the network's, by name; see `network_state`.
        output: What to call, for example a bound method of `model`; `model` itself by default.
        taps: Functions that see the input and the output of a layer, by the layer's dotted path.
        batch_statistics: Makes BatchNorm layers in training mode use statistics of a batch, as constants: those in
            the dictionary, or else those of this very batch, of all ranks, which are put into it. Without it, and
            in evaluation mode, they use their running statistics.
        all_sum: Sum over ranks, for those statistics.

    Returns:
        The output, with a graph where `state` requires gradients.
    """
    state = network_state(model, inputs.dtype) if state is None else state
    inputs = inputs.clone() if inputs.is_inference() else inputs
    network = _Output(model, output or model)
    named = {f"model.{name}": value for name, value in state.items()}
    modules = dict(model.named_modules())
    handles = []
    if batch_statistics is not None:  # before the taps, which see what goes on
        handles += [
            module.register_forward_hook(_hold_statistics(name, batch_statistics, all_sum))
            for name, module in modules.items()
            if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
        ]
    handles += [modules[name].register_forward_hook(_as_hook(tap)) for name, tap in (taps or {}).items()]
    try:
        with (
            preserved_random_state(inputs.device),
            evaluation_mode(model),
            torch.autocast(inputs.device.type, enabled=False),
            torch.compiler.set_stance("force_eager"),
        ):
            return functional_call(network, named, (inputs,))
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def layer_features(
    model: nn.Module,
    inputs: Tensor,
    layers: Sequence[str],
    *,
    output: Callable[[Tensor], Tensor] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """What named layers put out for each sample, in evaluation mode.

    Args:
        model: Any module.
        inputs: (N, *input).
        layers: Dotted paths of layers; `""` stands for the output of the whole call.
        output: What to call, for example a bound method of `model`; `model` itself by default.
        state: Parameters and buffers to use instead of the network's, by name; see `network_state`.

    Returns:
        For each layer (N, D): channels averaged over positions for (N, D, ...), tokens averaged for (N, T, D).

    Raises:
        ValueError: If the pass does not reach a layer, or a layer runs more than once.
        TypeError: If a layer puts out something else than one tensor.
    """
    features: dict[str, Tensor] = {}

    def tap(name: str) -> Tap:
        def keep(_: nn.Module, __: Tensor, outputs: Tensor) -> None:
            if name in features:
                raise second_input(name)
            features[name] = pooled(outputs, name).clone()

        return keep

    taps = {name: tap(name) for name in layers if name}
    result = frozen_call(model, inputs, output=output, state=state, taps=taps)
    if "" in layers:
        features[""] = pooled(result, "")
    for name in layers:
        if name not in features:
            raise ValueError(
                f"Expected the forward pass to reach layer {name!r}, it did not; "
                "name layers that the output depends on."
            )
    return features


def pooled(outputs: Tensor, name: str) -> Tensor:
    """One vector a sample: (N, D) as it is, (N, T, D) averaged over T, (N, D, ...) over the trailing dimensions."""
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"Expected layer {name!r} to put out one tensor, got {type(outputs).__name__}; "
            "name a layer inside it."
        )
    if outputs.ndim <= 2:
        return outputs.reshape(len(outputs), -1)
    return outputs.mean(1) if outputs.ndim == 3 else outputs.flatten(2).mean(2)


@contextmanager
def preserved_random_state(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside from torch (CPU and `device`), NumPy or Python leaves their states as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=_fork_type(device)):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _fork_type(device: torch.device) -> str:
    return "cuda" if device.type == "cpu" else device.type


class _Output(nn.Module):
    """Gives a callable of a module the call signature that `functional_call` needs."""

    def __init__(self, model: nn.Module, output: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._output = (output,)  # in a tuple, so that a module is not registered twice

    def forward(self, inputs: Tensor) -> Tensor:
        return self._output[0](inputs)


def second_input(name: str) -> ValueError:
    """The error about a tapped layer that runs more than once in a pass."""
    return ValueError(
        f"Expected layer {name!r} to see one input in a forward pass, it saw two; "
        "leave shared layers out of `layers`."
    )


def _as_hook(tap: Tap) -> Callable[..., Tensor | None]:
    return lambda layer, args, outputs: tap(layer, args[0], outputs)


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


def _hold_statistics(name: str, statistics: BatchStatistics, all_sum: AllSum) -> Callable[..., Tensor]:
    calls = itertools.count()

    def hook(layer: _BatchNorm, args: tuple[Tensor, ...], _: Tensor) -> Tensor:
        key = (name, next(calls))
        if key not in statistics:
            statistics[key] = _mean_and_variance(args[0].detach(), all_sum)
        return F.batch_norm(args[0], *statistics[key], layer.weight, layer.bias, False, 0.0, layer.eps)

    return hook


def _mean_and_variance(inputs: Tensor, all_sum: AllSum) -> tuple[Tensor, Tensor]:
    dims = [dim for dim in range(inputs.ndim) if dim != 1]
    count = all_sum(inputs.new_tensor(inputs.numel() / inputs.shape[1]))
    mean = all_sum(inputs.sum(dims)) / count
    centred = inputs - mean.reshape(-1, *[1] * (inputs.ndim - 2))
    return mean, all_sum(centred.square().sum(dims)) / count
