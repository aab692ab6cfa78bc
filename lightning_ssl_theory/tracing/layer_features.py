"""Features of named layers: one vector for each sample, whatever the shape of what the layer puts out.

Which axis holds samples and which features is found by trying on a few samples. A change of one sample changes the
entries of that sample only. And a cotangent of one feature of the layer reaches that feature only in the last linear
map before it, whose axis of features is known.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.tracing.frozen_call import frozen, network_state, own_copies, ready
from lightning_ssl_theory.tracing.inputs import Inputs, floating_dtype
from lightning_ssl_theory.tracing.layer_names import find_module
from lightning_ssl_theory.tracing.network_output import Output, check_is_tensor, network_output
from lightning_ssl_theory.tracing.recorded_pass import Passage, WeightRecorder
from lightning_ssl_theory.tracing.row_layout import RowLayout, is_confined, with_one_changed

Pool = Callable[[Tensor], Tensor] | None
"""Makes (N, D) of what a layer puts out."""

NUM_PASSAGES = 8
"""How many of the last linear maps before a layer's output are tried for the axis of its features."""


@torch.inference_mode(False)
def layer_features(
    model: nn.Module,
    inputs: Inputs,
    layers: Sequence[str],
    *,
    output: Output = None,
    state: Mapping[str, Tensor] | None = None,
    pool: Pool = None,
) -> dict[str, Tensor]:
    """What named layers put out for each sample, in evaluation mode.

    Args:
        model: Any module; nothing of it is changed.
        inputs: (N, *input), or a dictionary of such tensors.
        layers: Dotted paths of layers; `""` stands for the output of the whole call.
        output: What to call instead, or what to choose of the output; see `network_output`.
        state: Parameters and buffers to use instead of the network's, by name; see `network_state`.
        pool: Makes (N, D) of what a layer puts out where it has more than two dimensions.

    Returns:
        For each layer (N, D): features averaged over positions.

    Raises:
        InputError: If a layer is not reached, runs more than once, or puts out something else than one tensor with
            an axis of features that can be told.
    """
    reader = FeatureReader(model, inputs, layers, output=output, state=state, pool=pool)
    for name in reader.left_out:
        raise reader.left_out.pop(name)  # an error that this frame holds would keep the frame, and so itself
    return reader(inputs)


class FeatureReader:
    """Reads the features of named layers, with what a first batch has shown of their axes.

    Where the whole network cannot run on the inputs, a layer is reached through the outermost of its parents that can.

    Args:
        model: Any module.
        inputs: A first batch.
        layers: Dotted paths; `""` stands for the output of the whole call.
        output: See `network_output`.
        state: Parameters and buffers to use instead of the network's.
        pool: Makes (N, D) of what a layer puts out.

    Attributes:
        left_out: Why layers cannot be read, by path.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        layers: Sequence[str],
        *,
        output: Output = None,
        state: Mapping[str, Tensor] | None = None,
        pool: Pool = None,
    ) -> None:
        self._model, self._pool = model, pool
        self._state = network_state(model, floating_dtype(inputs, model)) if state is None else state
        self._names = list(layers)
        self._callees: dict[str, Callable[[Inputs], Any]] = {}
        self._axes: dict[str, _Axes] = {}
        self.left_out: dict[str, ValueError | TypeError] = {}
        self._rehearse(inputs, network_output(model, output))

    @torch.no_grad()
    @torch.inference_mode(False)
    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """The features of a batch, (N, D) for each layer that is not left out."""
        found: dict[str, Tensor] = {}
        for callee in dict.fromkeys(self._callees.values()):
            names = [name for name, one in self._callees.items() if one is callee]
            outputs = self._run(callee, inputs, names).outputs
            found |= {name: self._pooled(_one_tensor(outputs[name], name), name) for name in names}
        return {name: found[name] for name in self._names if name in found}

    @torch.inference_mode(False)
    def _rehearse(self, inputs: Inputs, whole: Callable[[Inputs], Any]) -> None:
        few, changed, row = with_one_changed(inputs)
        missing, failure = list(self._names), ""
        for callee in [whole, *self._parents(missing)]:
            wanted = [name for name in missing if name or callee is whole]
            if not wanted:
                break
            try:
                first, second = (self._run(callee, one, wanted, is_recorded=True) for one in (few, changed))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # whatever a forward that was not made for this raises
                failure = f"{type(error).__name__} was raised: {error}" if callee is whole else failure
                continue
            for name in [name for name in wanted if name in first.outputs]:
                missing.remove(name)
                try:
                    self._axes[name] = _axes(name, first, second, row, has_pool=self._pool is not None)
                    self._callees[name] = callee
                except (ValueError, TypeError) as error:
                    self.left_out[name] = type(error)(str(error))  # its traceback would keep both passes
        self.left_out |= {name: _unreached(name, failure) for name in missing}

    def _parents(self, names: Sequence[str]) -> list[Callable[[Inputs], Any]]:
        paths: dict[str, None] = {}
        for name in names:
            parts = name.split(".")
            paths |= {".".join(parts[: length + 1]): None for length in range(len(parts))}
        by_depth = sorted(paths, key=lambda path: path.count("."))
        modules = {id(module): module for module in (find_module(self._model, path) for path in by_depth)}
        return [network_output(module) for module in modules.values()]

    def _run(
        self,
        callee: Callable[[Inputs], Any],
        inputs: Inputs,
        names: Sequence[str],
        *,
        is_recorded: bool = False,
    ) -> "_Run":
        copies = own_copies(self._state)
        leaves = {}
        if is_recorded:
            keys = [name for name, _ in self._model.named_parameters() if copies[name].is_floating_point()]
            leaves = {key: copies[key].detach().requires_grad_() for key in keys}
        recorder = WeightRecorder(leaves)
        outputs: dict[str, Any] = {}
        last: dict[str, list[Passage]] = {}

        def kept(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, __: Any, found: Any) -> None:
                # an in-place activation that follows changes the tensor itself only
                kept_one = found.clone() if isinstance(found, Tensor) else found
                outputs[name] = _Twice if name in outputs else kept_one
                last[name] = [passage for every in recorder.passages.values() for passage in every]

            return hook

        hooks = self._hooked({name: kept(name) for name in names if name})
        with torch.set_grad_enabled(is_recorded), frozen(self._model, copies | leaves), hooks, recorder:
            result = callee(ready(inputs, copies))
        if "" in names:
            kept("")(self._model, None, result)
        return _Run(outputs, last)

    @contextmanager
    def _hooked(self, hooks: Mapping[str, Callable[..., None]]) -> Iterator[None]:
        handles = [find_module(self._model, name).register_forward_hook(hook) for name, hook in hooks.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _pooled(self, outputs: Tensor, name: str) -> Tensor:
        if self._pool is not None and outputs.ndim > 2:
            outputs = self._pool(outputs)
            if outputs.ndim != 2:
                raise InputError(
                    f"Expected `pool` to make (N, D) of layer {name!r}, got {tuple(outputs.shape)}; "
                    "average over all other dimensions."
                )
            return outputs
        rows, feature_axis = self._axes[name]
        if outputs.ndim < 2:
            return outputs.reshape(len(outputs), -1)
        values = outputs.movedim((rows.axis, feature_axis), (0, -1))
        values = values.flatten(1, -2) if outputs.ndim > 2 else values.unsqueeze(1)  # (rows, positions, D)
        return values.reshape(len(values) // rows.factor, -1, values.shape[-1]).mean(1)


class _Axes(NamedTuple):
    rows: RowLayout
    features: int


class _Run(NamedTuple):
    outputs: dict[str, Any]
    passages: dict[str, list[Passage]]


class _Twice:
    """Stands for the outputs of a layer that runs more than once."""


def _one_tensor(found: Any, name: str) -> Tensor:
    if found is _Twice:
        raise InputError(
            f"Expected layer {name!r} to see one input in a forward pass, it saw two; "
            "leave shared layers out of `layers`."
        )
    if not name:
        return check_is_tensor(found)
    if not isinstance(found, Tensor):
        raise InputError(
            f"Expected layer {name!r} to put out one tensor, got {type(found).__name__}; name a layer inside it."
        )
    return found


def _unreached(name: str, failure: str) -> ValueError:
    if not failure:
        return ValueError(
            f"Expected the forward pass to reach layer {name!r}, it did not; "
            "name layers that the output depends on."
        )
    return ValueError(
        f"Expected a network that takes the batch, {failure}; "
        "pass `output=` that calls what takes it, or `read_batch=` that gives what the network takes."
    )


def _axes(name: str, first: _Run, second: _Run, row: int, *, has_pool: bool) -> _Axes:
    outputs, changed = (_one_tensor(run.outputs[name], name) for run in (first, second))
    num_rows = row + 1
    if outputs.ndim < 2 or (has_pool and outputs.ndim > 2):
        return _Axes(RowLayout(), -1)
    features = outputs.ndim - 1
    if outputs.ndim > 2:
        found = _feature_axis(outputs, first.passages[name])
        if found is None:
            raise InputError(
                f"Expected to find the axis of layer {name!r} that holds features, {tuple(outputs.shape)} does not "
                "show it; pass `pool=` that makes (N, D) of it, or name a layer inside it."
            )
        features = found
    for axis in range(outputs.ndim):
        if axis != features and outputs.shape[axis] % num_rows == 0:
            rows = RowLayout(axis, outputs.shape[axis] // num_rows)
            if is_confined((changed - outputs).detach(), outputs.detach(), rows, row):
                return _Axes(rows, features)
    raise InputError(
        f"Expected layer {name!r} to have entries of one sample each, a change of one sample changes others too; "
        "name a layer whose rows are samples."
    )


def _feature_axis(outputs: Tensor, passages: Sequence[Passage]) -> int | None:
    if not outputs.requires_grad:
        return None
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(outputs.shape, generator=generator).to(outputs) + 0.5
    is_constant = bool((outputs == outputs.flatten()[0]).all())  # nothing flows back, any axis will do
    for passage in passages[::-1][:NUM_PASSAGES]:
        axis = passage.use.kind.feature_axis % passage.outputs.ndim
        size = passage.outputs.shape[axis]
        is_reached = False
        every = _by_feature(outputs, passage, axis, noise)
        index = int(every.argmax())  # one that is alive: a cotangent of a dead one reaches nothing
        for candidate in [axis for axis in range(outputs.ndim) if outputs.shape[axis] == size]:
            cotangent = torch.zeros_like(outputs)
            cotangent.select(candidate, index).copy_(noise.select(candidate, index))
            others = _by_feature(outputs, passage, axis, cotangent)
            if others.any():
                is_reached = True
                others[index] = 0
                if not others.any():
                    return candidate
        if is_reached:
            return None
        if is_constant and outputs.ndim == passage.outputs.ndim and outputs.shape[axis] == size:
            return axis
    return None


def _by_feature(outputs: Tensor, passage: Passage, axis: int, cotangent: Tensor) -> Tensor:
    # largest size of what a cotangent of the outputs makes of each feature of an earlier layer's, (size,)
    (delta,) = torch.autograd.grad(outputs, passage.outputs, cotangent, retain_graph=True, allow_unused=True)
    if delta is None:
        return torch.zeros_like(passage.outputs.movedim(axis, 0).flatten(1)[:, 0])
    return delta.movedim(axis, 0).flatten(1).abs().amax(1)
