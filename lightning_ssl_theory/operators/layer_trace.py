r"""One forward pass of a network that remembers what each weight saw, and changes nothing.

The pass runs on detached copies of parameters and buffers (`torch.func.functional_call`), without autocast and
without compiled code. Dropout is off. BatchNorm layers in training mode use the statistics of this very batch (of
all ranks), held constant; layers in evaluation mode use their running statistics.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.operators.layer_names import resolve_layers


class LayerTrace(NamedTuple):
    """What one layer saw in a forward pass.

    Attributes:
        layer: The module.
        weight: Its weight, a leaf of the graph.
        inputs: Its input, detached, (S, ...).
        outputs: Its output, in the graph, (S, ...).
    """

    layer: nn.Module
    weight: Tensor
    inputs: Tensor
    outputs: Tensor

    @property
    def linear_outputs(self) -> Tensor:
        """The outputs without the bias, detached: the part that is linear in the weight."""
        outputs = self.outputs.detach()
        bias = self.layer.bias
        if bias is None:
            return outputs
        trailing = 0 if isinstance(self.layer, nn.Linear) else outputs.ndim - 2
        return outputs - bias.detach().to(outputs.dtype).reshape(-1, *[1] * trailing)


class NetworkTrace(NamedTuple):
    """A forward pass: its outputs (S, n_L), in the graph, and what each traced layer saw."""

    outputs: Tensor
    layers: dict[str, LayerTrace]

    def backward(self, cotangents: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pull per-sample cotangents of the outputs back to the layers' outputs and weights.

        Args:
            cotangents: (S, n_L).

        Returns:
            For each layer the gradients with respect to its output, (S, ...), and, summed over samples, with
            respect to its weight. One backward pass for all layers.
        """
        traces = self.layers.values()
        targets = [t.outputs for t in traces] + [t.weight for t in traces]
        found = torch.autograd.grad(self.outputs, targets, cotangents, retain_graph=True, materialize_grads=True)
        names = list(self.layers)
        return dict(zip(names, found[: len(names)], strict=True)), dict(
            zip(names, found[len(names) :], strict=True)
        )


@torch.inference_mode(False)
def trace_network(
    model: nn.Module,
    inputs: Tensor,
    layers: Sequence[str] | None = None,
    *,
    output: Callable[[Tensor], Tensor] | None = None,
    dtype: torch.dtype | None = None,
    all_sum: AllSum = identity,
) -> NetworkTrace:
    """Run the network once and remember each layer's input and output.

    Args:
        model: Any module that holds the layers.
        inputs: (S, *input).
        layers: Dotted module paths; `None` means every supported layer that the pass reaches.
        output: What to call, for example a bound method of `model`; `model` itself by default.
        dtype: Floating type of the pass; that of `inputs` by default.
        all_sum: Sum over ranks, for BatchNorm's statistics.

    Returns:
        The trace. Time and memory of one forward pass with its graph.

    Raises:
        ValueError: If a layer is unknown, is not reached, sees more than one input or has a computed weight, or
            if the output is not of shape (S, n_L) or not finite.
    """
    names = resolve_layers(model, layers)
    dtype = dtype or inputs.dtype
    inputs = inputs.detach().to(dtype) if not inputs.is_inference() else inputs.clone().to(dtype)
    network = _Output(model, output or model)
    modules = dict(model.named_modules())
    state = {
        f"model.{name}": _to_floating(value.detach(), dtype) for name, value in model.named_parameters()
    } | {
        f"model.{name}": _to_floating(value.detach().clone(), dtype) for name, value in model.named_buffers()
    }
    for name in names:
        weight = state.get(_weight_key(name))
        if weight is None:
            raise ValueError(
                f"Expected layer {name!r} to hold its weight as a parameter, found a computed one; "
                "leave layers with parametrizations out of `layers`."
            )
        state[_weight_key(name)] = weight.requires_grad_()
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    with _frozen(model, all_sum), _taps({name: modules[name] for name in names}, seen), torch.enable_grad():
        outputs = functional_call(network, state, (inputs,))
    _check_outputs(outputs, len(inputs))
    missing = [name for name in names if name not in seen]
    if missing and layers is not None:
        raise ValueError(
            f"Expected the forward pass to reach layer {missing[0]!r}, it did not; "
            "name layers that the output depends on."
        )
    traced = {
        name: LayerTrace(modules[name], state[_weight_key(name)], *seen[name])
        for name in names
        if name in seen
    }
    return NetworkTrace(outputs, traced)


class _Output(nn.Module):
    """Gives a callable of a module the call signature that `functional_call` needs."""

    def __init__(self, model: nn.Module, output: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._output = (output,)  # a tuple, so that a module is not registered twice

    def forward(self, inputs: Tensor) -> Tensor:
        return self._output[0](inputs)


def _weight_key(layer: str) -> str:
    return ".".join(filter(None, ("model", layer, "weight")))


def _to_floating(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _check_outputs(outputs: Tensor, num_rows: int) -> None:
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != num_rows:
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(
            f"Expected the network's output of shape (N, D) with N = {num_rows}, got {found}; "
            "pass `output=` that flattens or pools."
        )
    if not outputs.isfinite().all():
        raise ValueError(
            "Expected finite network outputs, found NaN or infinity; lower the learning rate or check the input."
        )


@contextmanager
def _taps(layers: dict[str, nn.Module], seen: dict[str, tuple[Tensor, Tensor]]) -> Iterator[None]:
    def tap(name: str) -> Callable[..., Tensor]:
        def hook(layer: nn.Module, args: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
            if name in seen:
                raise ValueError(
                    f"Expected layer {name!r} to see one input in a forward pass, it saw two; "
                    "leave shared layers out of `layers`."
                )
            seen[name] = (args[0].detach(), outputs)
            return outputs.clone()  # an in-place activation that follows changes the clone only

        return hook

    handles = [layer.register_forward_hook(tap(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _frozen(model: nn.Module, all_sum: AllSum) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    held = [m for m in model.modules() if isinstance(m, _BatchNorm) and (m.training or m.running_mean is None)]
    handles = [module.register_forward_hook(_hold_statistics(all_sum)) for module in held]
    device = next((p.device.type for p in model.parameters()), "cpu")
    try:
        for module, _ in modes:
            module.training = False
        with torch.autocast(device, enabled=False), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for handle in handles:
            handle.remove()


def _hold_statistics(all_sum: AllSum) -> Callable[..., Tensor]:
    def hook(layer: _BatchNorm, args: tuple[Tensor, ...], _: Tensor) -> Tensor:
        inputs = args[0].detach()
        dims = [dim for dim in range(inputs.ndim) if dim != 1]
        count = all_sum(inputs.new_tensor(inputs.numel() / inputs.shape[1]))
        mean = all_sum(inputs.sum(dims)) / count
        centred = inputs - mean.reshape(-1, *[1] * (inputs.ndim - 2))
        variance = all_sum(centred.square().sum(dims)) / count
        return F.batch_norm(args[0], mean, variance, layer.weight, layer.bias, False, 0.0, layer.eps)

    return hook
