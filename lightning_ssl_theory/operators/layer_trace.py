r"""One forward pass of a network that remembers what each weight saw.

BatchNorm layers in training mode use the statistics of this very batch (of all ranks), held constant; layers in
evaluation mode use their running statistics. Dropout is off.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.frozen_network import Tap, frozen_call, network_state
from lightning_ssl_theory.operators.layer_names import resolve_layers


class LayerTrace(NamedTuple):
    """What one layer saw in a forward pass.

    Attributes:
        weight: The layer's weight, a leaf of the graph.
        layer: The module.
        inputs: Its input, detached, (S, ...).
        outputs: Its output, in the graph, (S, ...).
    """

    weight: Tensor
    layer: nn.Module
    inputs: Tensor
    outputs: Tensor

    @property
    def linear_outputs(self) -> Tensor:
        """The outputs without the bias, detached: the part that is linear in the weight."""
        outputs = self.outputs.detach()
        bias = self.layer._parameters["bias"]
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
        found = torch.autograd.grad(
            self.outputs, targets, cotangents, retain_graph=True, materialize_grads=True
        )
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
    all_sum: AllSum = identity,
) -> NetworkTrace:
    """Run the network once and remember each layer's input and output.

    Args:
        model: Any module that holds the layers; nothing of it is changed.
        inputs: (S, *input); their floating type is the precision of the pass.
        layers: Dotted module paths; `None` means every supported layer that the pass reaches.
        output: What to call, for example a bound method of `model`; `model` itself by default.
        all_sum: Sum over ranks, for BatchNorm's statistics.

    Returns:
        The trace. Time and memory of one forward pass with its graph.

    Raises:
        ValueError: If a layer is unknown, is not reached, sees more than one input or has a computed weight, or
            if the output is not of shape (S, n_L), without a gradient or not finite.
    """
    names = resolve_layers(model, layers)
    state = network_state(model, inputs.dtype)
    weights = {name: _weight_leaf(state, name) for name in names}
    seen: dict[str, tuple[nn.Module, Tensor, Tensor]] = {}

    def tap(name: str) -> Tap:
        def keep(layer: nn.Module, layer_inputs: Tensor, outputs: Tensor) -> Tensor:
            seen[name] = (layer, layer_inputs.detach(), outputs)
            return outputs.clone()  # an in-place activation that follows changes the clone only

        return keep

    with torch.enable_grad():
        outputs = frozen_call(
            model,
            inputs.detach(),
            state=state,
            output=output,
            taps={name: tap(name) for name in names},
            hold_batch_statistics=True,
            all_sum=all_sum,
        )
    missing = [name for name in names if name not in seen]
    if missing and layers is not None:
        raise ValueError(
            f"Expected the forward pass to reach layer {missing[0]!r}, it did not; "
            "name layers that the output depends on."
        )
    _check_outputs(outputs, len(inputs))
    reached = [name for name in names if name in seen]
    return NetworkTrace(outputs, {name: LayerTrace(weights[name], *seen[name]) for name in reached})


def _weight_leaf(state: dict[str, Tensor], layer: str) -> Tensor:
    weight = state.get(f"{layer}.weight" if layer else "weight")
    if weight is None:
        raise ValueError(
            f"Expected layer {layer!r} to hold its weight as a parameter, found a computed one; "
            "leave layers with parametrizations out of `layers`."
        )
    return weight.requires_grad_()


def _check_outputs(outputs: Tensor, num_rows: int) -> None:
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != num_rows:
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(
            f"Expected the network's output of shape (N, D) with N = {num_rows}, got {found}; "
            "pass `output=` that flattens or pools."
        )
    if not outputs.requires_grad:
        raise ValueError(
            "Expected the output to depend on a traced layer with a gradient, it does not; "
            "name other `layers`, or pass `output=` without torch.no_grad."
        )
    if not outputs.isfinite().all():
        raise ValueError(
            "Expected finite network outputs, found NaN or infinity; lower the learning rate or check the input."
        )
