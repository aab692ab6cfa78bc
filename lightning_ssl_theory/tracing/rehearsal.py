r"""A pass over a few samples that finds which layers can be looked at, and refuses the others by name.

Of a layer is known what torch function its weight enters. Two checks of its behaviour, on three samples, decide:

- its weight's gradient is the sum of what it saw times what came back, so that nothing else uses the weight;
- a change of one sample changes, and a cotangent of one sample reaches, the entries of that sample only. Where they lie
  is found by trying: rows, blocks of rows (windows, frames), or another axis (time first).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.tracing.frozen_call import BatchStatistics, network_state
from lightning_ssl_theory.tracing.inputs import Inputs, floating_dtype, num_rows
from lightning_ssl_theory.tracing.layer_names import (
    LayerChoice,
    WeightPlace,
    exact_names,
    resolve_layers,
    weight_places,
)
from lightning_ssl_theory.tracing.layer_trace import LayerTrace, LayerWeight, layer_trace
from lightning_ssl_theory.tracing.network_output import Output
from lightning_ssl_theory.tracing.recorded_pass import Pass, check_outputs, part_of, recorded_pass
from lightning_ssl_theory.tracing.row_layout import RowLayout, is_confined, row_layouts, with_one_changed


class RowBytes(NamedTuple):
    """What a pass holds for each row of the inputs, in bytes.

    Attributes:
        graph: In the graph.
        outputs: What all layers put out together.
        patches: What the positions of one layer see, of the largest.
    """

    graph: int
    outputs: int
    patches: int


class Rehearsal(NamedTuple):
    """What is known of a network's layers before it is looked at.

    Attributes:
        model: The network.
        output: What is called.
        places: Where the weights of the layers are that can be looked at.
        layouts: Where samples lie in what they see.
        left_out: Why the others cannot, by path.
        asked: The paths that were asked for and may be looked at or left out, the same on every rank.
        weights: The layers' weights; those that the forward has not written to are the state's own.
        row_bytes: What a pass holds for each row of the inputs.
        dropout_seed: See `frozen`.
        state: Parameters and buffers used instead of the network's, or `None`.
    """

    model: nn.Module
    output: Output
    places: dict[str, WeightPlace]
    layouts: dict[str, RowLayout]
    left_out: dict[str, str]
    asked: tuple[str, ...]
    weights: dict[str, LayerWeight]
    row_bytes: RowBytes
    dropout_seed: int | None
    state: Mapping[str, Tensor] | None

    def without(self, names: Mapping[str, str]) -> "Rehearsal":
        """The same with further layers left out, by path and reason."""
        return self._replace(
            places={name: place for name, place in self.places.items() if name not in names},
            left_out=self.left_out | dict(names),
        )


def check_some(places: Mapping[str, WeightPlace], left_out: Mapping[str, str]) -> None:
    """Raise InputError unless a layer is left to look at."""
    if not places:
        reasons = "; ".join(f"{name!r} {reason}" for name, reason in list(left_out.items())[:3])
        raise InputError(
            "Expected the output to depend on a traced layer with a gradient, it does not"
            f"{f' ({reasons})' if reasons else ''}; name other `layers`, or pass `output=` without torch.no_grad."
        )


@torch.inference_mode(False)
def rehearse(
    model: nn.Module,
    inputs: Inputs,
    layers: Sequence[LayerChoice] | LayerChoice | None = None,
    *,
    output: Output = None,
    state: Mapping[str, Tensor] | None = None,
    dropout_seed: int | None = None,
) -> Rehearsal:
    """Find out on three samples which layers can be looked at.

    Args:
        model: Any module; nothing of it is changed.
        inputs: (S, *input), or a dictionary of such tensors, S at least 1.
        layers: Dotted paths, patterns and types; `None` for every layer whose weight mixes features.
        output: See `network_output`.
        state: Parameters and buffers to use instead of the network's.
        dropout_seed: See `frozen`.

    Returns:
        The layers, and why others are left out. Two forward passes and a backward pass over three rows.

    Raises:
        InputError: If a layer is unknown, or named by its path and refused; if samples mix or do not differ; or if
            the output is not of shape (S, n_L).
    """
    names = resolve_layers(model, layers)
    aliases = weight_places(model, with_aliases=True)
    places = {name: aliases[name] for name in names}
    own_state = network_state(model, floating_dtype(inputs, model)) if state is None else state
    few, changed, row = with_one_changed(inputs)
    statistics: BatchStatistics = {}
    run: dict[str, Any] = {
        "keys": list(dict.fromkeys(place.key for place in places.values())),
        "output": output,
        "state": own_state,
        "batch_statistics": statistics,
        "dropout_seed": dropout_seed,
    }
    saved: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(_measured(saved), lambda tensor: tensor):
        first = recorded_pass(model, few, **run)
    check_outputs(first.outputs, num_rows(few))
    kept = {tensor.untyped_storage().data_ptr() for tensor in first.leaves.values()}
    memory = sum(size for address, size in saved.items() if address not in kept)
    second = recorded_pass(model, changed, **run)
    _check_rows_apart(first.outputs, second.outputs, row)
    probe = _Probe(first, second, row)
    layouts: dict[str, RowLayout] = {}
    left_out: dict[str, str] = {}
    for name, place in places.items():
        found = probe.layout(place, is_dense_only=layers is None)
        if isinstance(found, RowLayout):
            layouts[name] = found
        elif found:
            left_out[name] = found
    _check_named(exact_names(layers), left_out)
    chosen = {name: places[name] for name in layouts}
    check_some(chosen, left_out)
    seen = {name: layer_trace(first.passages[places[name]][0], layouts[name]) for name in chosen}
    rows = num_rows(few)
    return Rehearsal(
        model,
        output,
        chosen,
        layouts,
        left_out,
        tuple(names),
        {name: _weight(layer, own_state, chosen[name]) for name, layer in seen.items()},
        RowBytes(
            memory // rows,
            sum(layer.outputs.nbytes for layer in seen.values()) // rows,
            max(layer.patches().nbytes for layer in seen.values()) // rows,
        ),
        dropout_seed,
        state,
    )


def _weight(seen: LayerTrace, state: Mapping[str, Tensor], place: WeightPlace) -> LayerWeight:
    own = part_of(state[place.key], place)
    return LayerWeight(own if torch.equal(own, seen.weight) else seen.weight, seen.kind)


class _Probe:
    # What two passes that differ in one sample, and a cotangent of that sample, say of a layer.

    def __init__(self, first: Pass, second: Pass, row: int) -> None:
        self._first, self._second, self._row = first, second, row
        self._num_rows = len(first.outputs)
        places = list(first.passages)
        targets = [first.passages[place][0].outputs for place in places]
        cotangent = torch.zeros_like(first.outputs)
        generator = torch.Generator().manual_seed(0)
        cotangent[row] = torch.randn(cotangent.shape[1], generator=generator).to(cotangent)
        leaves = list(first.leaves.values())
        wanted = [value for value in [*targets, *leaves] if value.requires_grad]
        if not first.outputs.requires_grad:
            self._deltas, self._gradients = {}, {}
            return
        with first.again():
            found = torch.autograd.grad(first.outputs, wanted, cotangent, allow_unused=True)
        by_id = dict(zip(map(id, wanted), found, strict=True))
        self._deltas = {place: by_id.get(id(value)) for place, value in zip(places, targets, strict=True)}
        self._gradients = {key: by_id.get(id(leaf)) for key, leaf in first.leaves.items()}

    def layout(self, place: WeightPlace, *, is_dense_only: bool) -> RowLayout | str | None:
        # the layout, or why there is none, or nothing where the layer is not asked for
        passages = self._first.passages.get(place, [])
        gradient = self._gradients.get(place.key)
        if is_dense_only and passages and not passages[0].use.kind.is_dense:
            return None
        if not passages:
            if gradient is None:
                return (
                    None
                    if is_dense_only
                    else "is not reached by the forward pass, or the output does not depend on it"
                )
            if is_dense_only and (gradient.ndim < 2 or self._is_in_parts(place)):
                return None
            return "does not enter a linear map, a convolution or a normalisation as it is"
        if len(passages) > 1:
            return "sees more than one input in a forward pass"
        delta = self._deltas.get(place)
        if delta is None or gradient is None:
            return "does not lead to the output"
        seen, (changed, *_) = passages[0], self._second.passages.get(place, passages)
        if changed.outputs.shape != seen.outputs.shape:
            return "sees other shapes for other samples"
        for layout in row_layouts(seen.outputs, seen.use.inputs, self._num_rows, seen.use.kind.feature_axis):
            is_apart = is_confined(changed.use.inputs - seen.use.inputs, seen.use.inputs, layout, self._row)
            if is_apart and is_confined(delta, delta, layout, self._row):
                break
        else:
            return "has rows that are not samples"
        trace = layer_trace(seen, layout)
        if not _is_close(trace.weight_gradient(delta).flatten(), part_of(gradient, place).flatten()):
            return "has a gradient that is not what it saw times what came back"
        return layout

    def _is_in_parts(self, place: WeightPlace) -> bool:
        return place.part is None and any(
            other.key == place.key and other.part is not None for other in self._first.passages
        )


def _is_close(found: Tensor, expected: Tensor) -> bool:
    tolerance = torch.finfo(found.dtype).eps ** 0.5
    size = torch.maximum(found.norm(), expected.norm())
    return bool((found - expected).norm() <= tolerance * size) or not bool(size.isfinite())


def _check_rows_apart(before: Tensor, after: Tensor, row: int) -> None:
    is_finite = bool(before.isfinite().all())
    if is_finite and not is_confined((after - before).detach(), before.detach(), RowLayout(), row):
        raise InputError(
            "Expected each row of the output to depend on its own sample only, a change of one sample changes "
            "others too; put layers that mix samples into evaluation mode, or pass `output=` that ends before."
        )


def _check_named(names: set[str], left_out: Mapping[str, str]) -> None:
    for name in sorted(names & set(left_out)):
        raise InputError(
            f"Expected a layer that is one linear map of its weight on the way to the output, {name!r} "
            f"{left_out[name]}; leave it out of `layers`."
        )


def _measured(saved: dict[int, int]) -> Any:
    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # the tensor itself would keep its own graph alive

    return pack
