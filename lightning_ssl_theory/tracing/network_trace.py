r"""One forward pass of a network that remembers what each weight saw.

BatchNorm layers in training mode use the statistics of this very batch (of all ranks), held constant; layers in
evaluation mode use their running statistics. Dropout is off.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.tracing.frozen_call import (
    BatchStatistics,
    Tap,
    frozen_call,
    network_state,
    second_input,
)
from lightning_ssl_theory.tracing.layer_kinds import per_output
from lightning_ssl_theory.tracing.layer_names import LayerChoice, resolve_layers
from lightning_ssl_theory.tracing.normalized_inputs import normalized_inputs


class LayerTrace(NamedTuple):
    """What one layer saw in a forward pass.

    Attributes:
        weight: The layer's weight, a leaf of the graph.
        layer: The module.
        inputs: Its input, detached, (S, ...); of a normalisation layer the input normalised.
        outputs: Its output, in the graph, (S, ...).
    """

    weight: Tensor
    layer: nn.Module
    inputs: Tensor
    outputs: Tensor

    @property
    def linear_outputs(self) -> Tensor:
        """The outputs without the bias, detached: the part that is linear in the weight."""
        outputs, bias = self.outputs.detach(), self.layer._parameters.get("bias")
        if bias is None:
            return outputs
        return outputs - per_output(self.layer, bias.detach().to(outputs.dtype), outputs.ndim)


class NetworkTrace(NamedTuple):
    """A forward pass: its outputs (S, n_L), in the graph, and what each traced layer saw."""

    outputs: Tensor
    layers: dict[str, LayerTrace]

    def backward(self, cotangents: Tensor) -> dict[str, Tensor]:
        """Pull per-sample cotangents of the outputs back to the layers' outputs.

        Args:
            cotangents: (S, n_L).

        Returns:
            For each layer the gradients with respect to its output, (S, ...). One backward pass for all layers,
            without the gradients of any weight.
        """
        targets = [layer.outputs for layer in self.layers.values()]
        found = torch.autograd.grad(
            self.outputs, targets, cotangents, retain_graph=True, materialize_grads=True
        )
        return dict(zip(self.layers, found, strict=True))

    def weight_gradients(self, cotangents: Tensor) -> dict[str, Tensor]:
        """Pull per-sample cotangents of the outputs, (S, n_L), back to the layers' weights, summed over samples."""
        targets = [layer.weight for layer in self.layers.values()]
        found = torch.autograd.grad(
            self.outputs, targets, cotangents, retain_graph=True, materialize_grads=True
        )
        return dict(zip(self.layers, found, strict=True))


@torch.inference_mode(False)
def trace_network(
    model: nn.Module,
    inputs: Tensor,
    layers: Sequence[LayerChoice] | LayerChoice | None = None,
    *,
    output: Callable[[Tensor], Tensor] | None = None,
    state: Mapping[str, Tensor] | None = None,
    batch_statistics: BatchStatistics | None = None,
    all_sum: AllSum = identity,
) -> NetworkTrace:
    """Run the network once and remember each layer's input and output.

    Args:
        model: Any module that holds the layers; nothing of it is changed.
        inputs: (S, *input); their floating type is the precision of the pass.
        layers: Which layers, see `resolve_layers`; `None` means every Linear, Conv1d and Conv2d that the pass
            reaches once.
        output: What to call, for example a bound method of `model`; `model` itself by default.
        state: Parameters and buffers to use instead of the network's, by name; see `network_state`.
        batch_statistics: BatchNorm's statistics of an earlier pass, to be used again; see `frozen_call`.
        all_sum: Sum over ranks, for BatchNorm's statistics.

    Returns:
        The trace. Time and memory of one forward pass with its graph.

    Raises:
        ValueError: If a layer is unknown or refused, is not reached or sees more than one input, or if the output is
            not of shape (S, n_L) or without a gradient.
    """
    names = resolve_layers(model, layers)
    state = dict(network_state(model, inputs.dtype) if state is None else state)
    keys = {name: f"{name}.weight" if name else "weight" for name in names}
    weights = {name: state[key].detach().requires_grad_() for name, key in keys.items()}
    state |= {keys[name]: weight for name, weight in weights.items()}
    seen: dict[str, tuple[nn.Module, Tensor, Tensor]] = {}
    shared: set[str] = set()
    statistics = {} if batch_statistics is None else batch_statistics

    def tap(name: str) -> Tap:
        def keep(layer: nn.Module, layer_inputs: Tensor, outputs: Tensor) -> Tensor:
            if name in seen:
                if layers is not None:
                    raise second_input(name)
                shared.add(name)
            seen[name] = (layer, normalized_inputs(name, layer, layer_inputs.detach(), statistics), outputs)
            return outputs.clone()  # an in-place activation that follows changes the clone only

        return keep

    with torch.enable_grad():
        outputs = frozen_call(
            model,
            inputs.detach(),
            state=state,
            output=output,
            taps={name: tap(name) for name in names},
            batch_statistics=statistics,
            all_sum=all_sum,
        )
    missing = [name for name in names if name not in seen]
    if missing and layers is not None:
        raise ValueError(
            f"Expected the forward pass to reach layer {missing[0]!r}, it did not; "
            "name layers that the output depends on."
        )
    check_outputs(outputs, len(inputs))
    reached = [name for name in names if name in seen and name not in shared]
    if not reached or not outputs.requires_grad:
        raise ValueError(
            "Expected the output to depend on a traced layer with a gradient, it does not; "
            "name other `layers`, or pass `output=` without torch.no_grad."
        )
    return NetworkTrace(outputs, {name: LayerTrace(weights[name], *seen[name]) for name in reached})


def check_outputs(outputs: Tensor, num_rows: int) -> None:
    """Raise ValueError unless a network's outputs are of shape (num_rows, n_L)."""
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != num_rows:
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(
            f"Expected the network's output of shape (N, D) with N = {num_rows}, got {found}; "
            "pass `output=` that flattens or pools."
        )


def check_finite_outputs(outputs: Tensor, all_sum: AllSum = identity) -> None:
    """Raise ValueError, on all ranks, if a network's outputs are not finite on one of them."""
    if all_sum((~outputs.isfinite()).any().int()):
        raise ValueError(
            "Expected finite network outputs, found NaN or infinity; lower the learning rate or check the input."
        )


def check_finite_gradients(name: str, *values: Tensor) -> None:
    """Raise ValueError unless what came back at a layer, equal on all ranks, is finite."""
    if not all(found.isfinite().all() for found in values):
        raise ValueError(
            f"Expected finite gradients of the output at layer {name!r}, found NaN or infinity; "
            "look for a square root or a division at zero after it, or leave it out of `layers`."
        )
