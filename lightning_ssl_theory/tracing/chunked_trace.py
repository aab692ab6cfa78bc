"""Views of a batch, traced in chunks of samples that fit a memory budget.

Samples meet only in BatchNorm's statistics. A first pass without gradients takes those of the whole batch, so that the
chunks afterwards give what one pass would.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.tracing.frozen_call import BatchStatistics, frozen_call
from lightning_ssl_theory.tracing.layer_kinds import patches
from lightning_ssl_theory.tracing.layer_names import LayerChoice
from lightning_ssl_theory.tracing.network_trace import (
    NetworkTrace,
    check_finite_outputs,
    check_outputs,
    trace_network,
)

MEMORY_BUDGET = 2**30


class ChunkedTrace:
    """One or several traces that together cover the views of a batch; iterating gives them in order.

    Where one chunk holds the batch its graph is kept; otherwise each iteration runs the network again.

    Args:
        model: Any module that holds the layers; nothing of it is changed.
        views: (n, A, *input), this rank's.
        layers: Which layers, see `resolve_layers`.
        output: What to call instead of `model`.
        num_columns: Cotangents of a sample that are held at once.
        memory_budget: Bytes that a chunk's graph, its cotangents and one layer's patches may take. The first pass,
            without gradients, and sums of weight gradients come on top.
        all_sum: Sum over ranks, for BatchNorm's statistics.

    Raises:
        ValueError: If the budget does not hold one sample, an output is not finite, or as `trace_network` says.
    """

    def __init__(
        self,
        model: nn.Module,
        views: Tensor,
        layers: Sequence[LayerChoice] | LayerChoice | None = None,
        *,
        output: Callable[[Tensor], Tensor] | None = None,
        num_columns: int = 1,
        memory_budget: int = MEMORY_BUDGET,
        all_sum: AllSum = identity,
    ) -> None:
        self._model, self._views, self._layers, self._output = model, views, layers, output
        self._statistics: BatchStatistics = {}
        self.layers: dict[str, nn.Module] = {}
        """The traced layers by their paths."""
        needed = self._bytes_of_a_sample(num_columns)
        if needed > memory_budget:
            raise ValueError(
                f"Expected a `memory_budget` that holds one sample, {needed} bytes here, got {memory_budget}; "
                "raise it, or lower `num_probes`."
            )
        self._step = max(1, memory_budget // needed)
        self._whole: NetworkTrace | None = None
        if len(views) <= self._step:
            self._whole = self._trace(views, self._statistics, all_sum)
            outputs = self._whole.outputs.detach()
        else:
            with torch.no_grad():
                outputs = frozen_call(
                    model,
                    views.flatten(0, 1),
                    output=output,
                    batch_statistics=self._statistics,
                    all_sum=all_sum,
                )
            check_outputs(outputs, views.shape[0] * views.shape[1])
        check_finite_outputs(outputs, all_sum)
        self.outputs = outputs.unflatten(0, views.shape[:2])
        """What the network puts out for every view, (n, A, n_L), without a graph."""

    @property
    def num_chunks(self) -> int:
        """Number of traces that an iteration gives."""
        return -(-len(self._views) // self._step)

    def __iter__(self) -> Iterator[NetworkTrace]:
        """Traces of consecutive samples."""
        if self._whole is not None:
            yield self._whole
            return
        for chunk in self._views.split(self._step):
            yield self._trace(chunk, self._statistics)

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """The rows of values of all samples, (n, ...), that belong to each chunk."""
        return values.split(self._step)

    def _trace(self, views: Tensor, statistics: BatchStatistics, all_sum: AllSum = identity) -> NetworkTrace:
        return trace_network(
            self._model,
            views.flatten(0, 1),
            self._layers,
            output=self._output,
            batch_statistics=statistics,
            all_sum=all_sum,
        )

    def _bytes_of_a_sample(self, num_columns: int) -> int:
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trace = self._trace(self._views[:1].clone(), {})  # a slice would count the whole batch's storage
        self.layers = {name: seen.layer for name, seen in trace.layers.items()}
        for parameter in self._model.parameters():
            saved.pop(parameter.untyped_storage().data_ptr(), None)
        sent = sum(layer.outputs.nbytes for layer in trace.layers.values())
        seen = max((patches(layer.layer, layer.inputs).nbytes for layer in trace.layers.values()), default=0)
        return sum(saved.values()) + (num_columns + 2) * sent + 2 * seen
