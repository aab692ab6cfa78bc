"""Views of a batch, traced in chunks of samples that fit a memory budget.

Samples meet only in BatchNorm's statistics. A first pass without gradients takes those of the whole batch, so that the
chunks afterwards give what one pass would.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.tracing.frozen_call import BatchStatistics, frozen_call, network_state
from lightning_ssl_theory.tracing.inputs import (
    Inputs,
    device_of,
    floating_dtype,
    map_inputs,
    rows_of,
    tensors_of,
)
from lightning_ssl_theory.tracing.layer_names import LayerChoice
from lightning_ssl_theory.tracing.network_output import Output
from lightning_ssl_theory.tracing.network_trace import (
    NetworkTrace,
    check_finite_outputs,
    trace_rehearsed,
)
from lightning_ssl_theory.tracing.recorded_pass import check_outputs
from lightning_ssl_theory.tracing.rehearsal import Rehearsal, check_some, rehearse

MEMORY_BUDGET = 2**30

R = TypeVar("R")


class ChunkedTrace:
    """One or several traces that together cover the views of a batch.

    Where one chunk holds the batch its graph is kept, as `whole`; otherwise each `map` runs the network again.

    Args:
        model: Any module that holds the layers; nothing of it is changed.
        views: (n, A, *input), this rank's, or a dictionary of such tensors.
        layers: Which layers, see `rehearse`.
        output: What to call instead of `model`, or what to choose of its output.
        num_columns: Cotangents of a sample that are to be held at once; fewer where one sample would not fit.
        memory_budget: Bytes that a chunk's graph, its cotangents and one layer's patches may take. A copy of the
            parameters, the first pass, without gradients, and sums of weight gradients come on top.
        dropout_seed: Leaves dropout on, with masks from this seed; see `frozen`.
        dtype: Precision of the passes; that of the floating views, else of the network, by default.
        all_sum: Sum over ranks, for BatchNorm's statistics.

    Attributes:
        layers: The layers' weights, by path.
        num_columns: Cotangents of a sample that may be held at once.
        whole: The trace of all samples, or `None` where there are several.
        left_out: Why other layers cannot be looked at, by path; the same paths on every rank.

    Raises:
        InputError: If the budget does not hold one sample, an output is not finite, chunks do not give what one pass
            does, or as `rehearse` says.
    """

    def __init__(
        self,
        model: nn.Module,
        views: Inputs,
        layers: Sequence[LayerChoice] | LayerChoice | None = None,
        *,
        output: Output = None,
        num_columns: int = 1,
        memory_budget: int = MEMORY_BUDGET,
        dropout_seed: int | None = None,
        dtype: torch.dtype | None = None,
        all_sum: AllSum = identity,
    ) -> None:
        self._views, self._all_sum = views, all_sum
        self._num_samples, self._num_views = tensors_of(views)[0].shape[:2]
        rows = map_inputs(lambda value: value.flatten(0, 1), views)
        with _together(device_of(views), all_sum):
            state = network_state(model, dtype or floating_dtype(views, model))
            rehearsal = rehearse(model, rows, layers, output=output, state=state, dropout_seed=dropout_seed)
        self._rehearsal = _agreed(rehearsal, device_of(views), all_sum)
        self.layers = {name: self._rehearsal.weights[name] for name in self._rehearsal.places}
        self.left_out = self._rehearsal.left_out
        self._statistics: BatchStatistics = {}
        self.num_columns = num_columns
        while self.num_columns > 1 and self._bytes_of_a_sample() > memory_budget:
            self.num_columns -= 1
        needed = self._bytes_of_a_sample()
        if needed > memory_budget:
            raise InputError(
                f"Expected a `memory_budget` that holds one sample, {needed} bytes here, got {memory_budget}; raise it."
            )
        self._step = max(1, memory_budget // needed)
        self.whole: NetworkTrace | None = None
        if self._num_samples <= self._step:
            self.whole = self._trace(views, all_sum)
            outputs = self.whole.outputs.detach()
        else:
            with torch.no_grad():
                outputs = frozen_call(
                    model,
                    rows,
                    state=state,
                    output=output,
                    batch_statistics=self._statistics,
                    dropout_seed=dropout_seed,
                    all_sum=all_sum,
                )
            check_outputs(outputs, self._num_samples * self._num_views)
        check_finite_outputs(outputs, all_sum)
        self.outputs = outputs.unflatten(0, (self._num_samples, self._num_views))
        """What the network puts out for every view, (n, A, n_L), without a graph."""

    @property
    def num_chunks(self) -> int:
        """Number of traces."""
        return -(-self._num_samples // self._step)

    def map(self, function: Callable[..., R], *columns: Tensor) -> list[R]:
        """A function of the trace of every chunk, and of the chunk's rows of some tensors, in order.

        Each trace is let go of before the next one is made; a loop over traces would hold two.

        Args:
            function: Of a trace, and of as many tensors as there are columns; what it returns should hold no graph.
            *columns: Values of all samples, (n, ...).

        Returns:
            What the function returns for each chunk.
        """
        if self.whole is not None:
            return [function(self.whole, *columns)]
        chunks = [slice(start, start + self._step) for start in range(0, self._num_samples, self._step)]
        return [function(self._part(rows), *(values[rows] for values in columns)) for rows in chunks]

    def _part(self, samples: slice) -> NetworkTrace:
        trace = self._trace(rows_of(self._views, samples))
        _check_same(trace.outputs.detach(), self.outputs[samples].flatten(0, 1))
        return trace

    def _trace(self, views: Inputs, all_sum: AllSum = identity) -> NetworkTrace:
        rows = map_inputs(lambda value: value.flatten(0, 1), views)
        return trace_rehearsed(self._rehearsal, rows, batch_statistics=self._statistics, all_sum=all_sum)

    def _bytes_of_a_sample(self) -> int:
        graph, outputs, patches = self._rehearsal.row_bytes
        return self._num_views * (graph + (self.num_columns + 2) * outputs + 2 * patches)


@contextmanager
def _together(device: torch.device, all_sum: AllSum) -> Iterator[None]:
    # what one rank raises before the first sum over ranks, all raise, so that none waits for it
    try:
        yield
    except Exception:  # the user's forward may raise anything
        all_sum(torch.ones((), dtype=torch.int64, device=device))
        raise
    if all_sum(torch.zeros((), dtype=torch.int64, device=device)):
        raise InputError(
            "Expected a look that every rank can take, another rank could not; its own sentence says why."
        )


def _agreed(rehearsal: Rehearsal, device: torch.device, all_sum: AllSum) -> Rehearsal:
    # A layer that one rank leaves out is left out by all.
    names = list(rehearsal.asked)
    flags = torch.tensor([name in rehearsal.left_out for name in names], device=device).int()
    found = all_sum(flags).tolist()
    elsewhere = {name: "is left out on another rank" for name, flag in zip(names, found, strict=True) if flag}
    agreed = rehearsal.without(
        {name: rehearsal.left_out.get(name, reason) for name, reason in elsewhere.items()}
    )
    check_some(agreed.places, agreed.left_out)
    return agreed


def _check_same(found: Tensor, expected: Tensor) -> None:
    tolerance = torch.finfo(found.dtype).eps ** 0.5
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())):
        raise InputError(
            "Expected a network that gives a sample the same output in a part of the batch as in the whole, it "
            "draws at random or mixes samples; raise `memory_budget` so that one part holds the batch."
        )
