r"""One forward pass of a network that remembers what each weight saw.

BatchNorm layers in training mode use the statistics of this very batch (of all ranks), held constant; layers in
evaluation mode use their running statistics. Dropout is off.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError, check_callable, check_instance, check_shape
from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.tracing.frozen_call import BatchStatistics
from lightning_ssl_theory.tracing.inputs import Inputs, num_rows, tensors_of
from lightning_ssl_theory.tracing.layer_names import LayerChoice, WeightPlace
from lightning_ssl_theory.tracing.layer_trace import LayerTrace, layer_trace
from lightning_ssl_theory.tracing.network_output import Output
from lightning_ssl_theory.tracing.recorded_pass import check_outputs, part_of, recorded_pass
from lightning_ssl_theory.tracing.rehearsal import Rehearsal, check_some, rehearse


class NetworkTrace(NamedTuple):
    """A forward pass: its outputs (S, n_L), in the graph, and what each traced layer saw.

    Attributes:
        outputs: (S, n_L).
        layers: By path.
        leaves: The parameters that hold the layers' weights.
        places: Where in them.
        again: The state of the pass, for backward passes that compute parts of it again.
    """

    outputs: Tensor
    layers: dict[str, LayerTrace]
    leaves: dict[str, Tensor]
    places: dict[str, WeightPlace]
    again: Callable[[], AbstractContextManager[None]]

    def backward(self, cotangents: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Pull per-sample cotangents of the outputs back to the layers' outputs.

        Args:
            cotangents: (S, n_L).
            names: Which layers; all by default.

        Returns:
            For each layer the gradients with respect to its output, (S, ...). One backward pass for all layers,
            without the gradients of any weight.
        """
        layers = {name: self.layers[name] for name in self._known(names)}
        found = self._pulled([layer.outputs for layer in layers.values()], cotangents)
        return dict(zip(layers, found, strict=True))

    def weight_gradients(self, cotangents: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Pull cotangents of the outputs, (S, n_L), back to all or some layers' weights, summed over samples."""
        places = {name: self.places[name] for name in self._known(names)}
        keys = list(dict.fromkeys(place.key for place in places.values()))
        found = dict(zip(keys, self._pulled([self.leaves[key] for key in keys], cotangents), strict=True))
        return {name: part_of(found[place.key], place) for name, place in places.items()}

    def _known(self, names: Collection[str] | None) -> Collection[str]:
        chosen = self.layers if names is None else names
        check_instance(chosen, "names", Collection)
        if unknown := set(chosen) - set(self.layers):
            raise InputError(
                f"Expected `names` of traced layers, got {sorted(unknown)}; trace them, or leave them out."
            )
        return chosen

    def _pulled(self, targets: Sequence[Tensor], cotangents: Tensor) -> Sequence[Tensor]:
        check_shape(cotangents, "cotangents", " ".join(map(str, self.outputs.shape)))
        with self.again():
            return torch.autograd.grad(
                self.outputs, targets, cotangents, retain_graph=True, materialize_grads=True
            )


@torch.inference_mode(False)
def trace_network(
    model: nn.Module,
    inputs: Inputs,
    layers: Sequence[LayerChoice] | LayerChoice | None = None,
    *,
    output: Output = None,
    state: Mapping[str, Tensor] | None = None,
    batch_statistics: BatchStatistics | None = None,
    all_sum: AllSum = identity,
) -> NetworkTrace:
    """Run the network once and remember each layer's input and output.

    Args:
        model: Any module that holds the layers; nothing of it is changed.
        inputs: (S, *input), or a dictionary of such tensors; their floating type is the precision of the pass.
        layers: Which layers, see `resolve_layers`; `None` means all that `rehearse` finds to mix features.
        output: What to call instead of `model`, or what to choose of its output; see `network_output`.
        state: Parameters and buffers to use instead of the network's, by name; see `network_state`.
        batch_statistics: BatchNorm's statistics of an earlier pass, to be used again; see `frozen`.
        all_sum: Sum over ranks, for BatchNorm's statistics.

    Returns:
        The trace. Time and memory of one forward pass with its graph, and of a rehearsal with three samples.

    Raises:
        InputError: If a layer is unknown or refused, or if the output is not of shape (S, n_L) or without a gradient.
    """
    check_instance(model, "model", nn.Module)
    check_instance(state, "state", Mapping, or_none=True)
    check_instance(batch_statistics, "batch_statistics", dict, or_none=True)
    check_callable(all_sum, "all_sum")
    for tensor in tensors_of(inputs):
        check_shape(tensor, "inputs", "S+ *")
    found = rehearse(model, inputs, layers, output=output, state=state)
    return trace_rehearsed(found, inputs, batch_statistics=batch_statistics, all_sum=all_sum)


def trace_rehearsed(
    rehearsal: Rehearsal,
    inputs: Inputs,
    *,
    batch_statistics: BatchStatistics | None = None,
    all_sum: AllSum = identity,
) -> NetworkTrace:
    """Run a network that has been rehearsed and remember what its layers see; see `trace_network`."""
    check_some(rehearsal.places, rehearsal.left_out)
    found = recorded_pass(
        rehearsal.model,
        inputs,
        list(dict.fromkeys(place.key for place in rehearsal.places.values())),
        output=rehearsal.output,
        state=rehearsal.state,
        batch_statistics=batch_statistics,
        all_sum=all_sum,
        dropout_seed=rehearsal.dropout_seed,
    )
    check_outputs(found.outputs, num_rows(inputs))
    layers = {
        name: layer_trace(found.passages[place][0], rehearsal.layouts[name])
        for name, place in rehearsal.places.items()
    }
    return NetworkTrace(found.outputs, layers, found.leaves, rehearsal.places, found.again)


def check_finite_outputs(outputs: Tensor, all_sum: AllSum = identity) -> None:
    """Raise ValueError, on all ranks, if a network's outputs are not finite on one of them."""
    if all_sum((~outputs.isfinite()).any().int()):
        raise InputError(
            "Expected finite network outputs, found NaN or infinity; lower the learning rate or check the `views`."
        )
