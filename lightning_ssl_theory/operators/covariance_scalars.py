r"""Scalars of every layer's covariance operator, streamed over probes and samples.

For a probe u, one backward pass gives each layer the factors of K_s u for all views s. What the scalars need of them
are sums over samples, so chunks and ranks merge by addition; no connection is kept, nothing of size P x P is formed.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Theorem 3 and Section 4.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError, check_callable, check_instance, check_integer
from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.moments import device_with_float64
from lightning_ssl_theory.operators.covariance_operators import check_pass, check_views
from lightning_ssl_theory.operators.covariance_sums import BatchSums, add_samples
from lightning_ssl_theory.operators.covered_layers import CoveredLayers, not_finite_layers
from lightning_ssl_theory.operators.operator_product import output_derivative
from lightning_ssl_theory.operators.output_cotangents import (
    PairwiseObjective,
    covariance_cotangents,
    gradient_cotangents,
    output_moments,
)
from lightning_ssl_theory.operators.pair_coefficients import Estimator, check_estimator
from lightning_ssl_theory.operators.scalar_estimates import (
    CovarianceScalars,
    Population,
    gradient_spread,
    layer_scalars,
    probe_estimates,
    weight_estimates,
)
from lightning_ssl_theory.tracing.chunked_trace import MEMORY_BUDGET, ChunkedTrace
from lightning_ssl_theory.tracing.inputs import Inputs, device_of, floating_dtype, in_precision
from lightning_ssl_theory.tracing.layer_names import LayerChoice, resolve_layers
from lightning_ssl_theory.tracing.network_output import Output
from lightning_ssl_theory.tracing.network_trace import NetworkTrace
from lightning_ssl_theory.tracing.plain_torch import full_precision
from lightning_ssl_theory.tracing.weight_directions import WeightDirections, rademacher_probes

PROBES_AT_ONCE = 8
LEAST_SPREAD, LEAST_OUTPUT_SPREAD = 1e-2, 1e-4
"""Share of a second moment that is variance, of per-sample gradients and of outputs, below which float32 does not keep
about 5 digits: what samples have in common cancels, in gradients after they were squared."""


@full_precision
@torch.inference_mode(False)
def covariance_scalars(
    model: nn.Module,
    views: Inputs,
    layers: Sequence[LayerChoice] | LayerChoice | None = None,
    *,
    num_probes: int | None = 4,
    loss: PairwiseObjective | None = None,
    estimator: Estimator = "plugin",
    exact_growth: Sequence[LayerChoice] | LayerChoice = (),
    output: Output = None,
    num_sketches: int = 64,
    memory_budget: int = MEMORY_BUDGET,
    dropout_seed: int | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
    all_sum: AllSum = identity,
) -> CoveredLayers[CovarianceScalars]:
    """Trace, signal ratio, growth rate and Frobenius norm of the operators, and how well they predict a gradient.

    Args:
        model: A network; see `covariance_operators`. Nothing of it is changed.
        views: A views of this rank's n samples, (n, A, *input), or a dictionary of such tensors; floating ones decide
            the arithmetic's precision.
        layers: Dotted paths, patterns and types; see `rehearse`. All that the output depends on by default.
        num_probes: m random probes; `None` for all n_L unit vectors.
        loss: A pairwise loss of two views whose gradient is predicted.
        estimator: "plugin" (the views are the population, 1/N) or "unbiased" (for an infinite one).
        exact_growth: Those of the layers whose growth rate is computed without probes, chosen like `layers`.
        output: What to call instead of `model`, or what to choose of its output.
        num_sketches: r random weight vectors for the Frobenius norm.
        memory_budget: Bytes that a chunk of samples may take; see `ChunkedTrace`.
        dropout_seed: Leaves dropout on, with masks from this seed, in one chunk only.
        dtype: Precision; that of the floating views, else of the network, by default. Where outputs or a layer's
            per-sample gradients are nearly the same for all samples, as in a collapsed network, a pass in float32 is
            made again in float64, on devices that have it; it holds twice as much beside the budget.
        generator: Source of probes and weight vectors on the CPU, in the same state on every rank.
        all_sum: Sum over ranks; what crosses is m + 1 weight gradients (2 more with a loss) and 2 m r^2 numbers a
            layer, those of all layers together for every 8 probes.

    Returns:
        Scalars in float64 for each layer, equal on every rank; `left_out` says why a layer has none. One forward pass,
        m + 1 backward passes, 2 more with a loss and for each layer of `exact_growth`, and the sums of per-sample
        gradients. Where the budget asks for chunks, one forward pass without gradients comes first, and one with them
        for every 8 probes.

    Raises:
        InputError: If there are fewer than two views or, over all ranks, two samples; if a layer is unknown; if a layer
            named by its path is refused or its gradients are not finite, or no layer is left; if the budget does not
            hold one sample; or if chunks are needed where dropout is on.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> views = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[-1.0, 0.0], [-1.0, 0.0]]])
        >>> float(covariance_scalars(model, views, num_probes=None)[""].trace)
        1.0
    """
    check_instance(model, "model", nn.Module)
    check_views(views)
    check_estimator(estimator)
    check_integer(num_probes, "num_probes", advice="use None for exact values", or_none=True)
    check_integer(num_sketches, "num_sketches")
    check_integer(memory_budget, "memory_budget")
    check_callable(loss, "loss", or_none=True)
    check_instance(dtype, "dtype", torch.dtype, or_none=True)
    check_pass(dropout_seed=dropout_seed, generator=generator, all_sum=all_sum)
    seed = int(torch.randint(2**62, (), generator=generator))
    once = partial(
        _scalars,
        model,
        layers=layers,
        num_probes=num_probes,
        loss=loss,
        estimator=estimator,
        exact_growth=exact_growth,
        output=output,
        num_sketches=num_sketches,
        memory_budget=memory_budget,
        dropout_seed=dropout_seed,
        seed=seed,
        all_sum=all_sum,
    )
    found, is_precise = once(views, dtype=dtype)
    is_exact = (dtype or floating_dtype(views, model)) == torch.float64
    if is_precise or is_exact or device_with_float64(device_of(views)) != device_of(views):
        return found
    del found
    return once(in_precision(views, torch.float64), dtype=torch.float64)[0]


def _scalars(
    model: nn.Module,
    views: Inputs,
    *,
    layers: Sequence[LayerChoice] | LayerChoice | None,
    num_probes: int | None,
    loss: PairwiseObjective | None,
    estimator: Estimator,
    exact_growth: Sequence[LayerChoice] | LayerChoice,
    output: Output,
    num_sketches: int,
    memory_budget: int,
    dropout_seed: int | None,
    dtype: torch.dtype | None,
    seed: int,
    all_sum: AllSum,
) -> tuple[CoveredLayers[CovarianceScalars], bool]:
    # the scalars, and whether float32 is precise enough for them, as all ranks say
    population = _population(views, estimator, all_sum)
    trace = ChunkedTrace(
        model,
        views,
        layers,
        output=output,
        num_columns=min(num_probes or PROBES_AT_ONCE, PROBES_AT_ONCE),
        memory_budget=memory_budget,
        dropout_seed=dropout_seed,
        dtype=dtype,
        all_sum=all_sum,
    )
    directions = {
        name: WeightDirections(layer.kind, num_sketches, seed=seed + 1 + 2 * index, like=trace.outputs)
        for index, (name, layer) in enumerate(trace.layers.items())
    }
    cotangents = [covariance_cotangents(trace.outputs, estimator=estimator, all_sum=all_sum)]
    cotangents += [] if loss is None else gradient_cotangents(trace.outputs, loss)
    asked = set() if num_probes is None else set(resolve_layers(model, exact_growth))
    known = [name for name in trace.layers if name in asked]  # in one order on every rank
    first, *others = _probes(num_probes, trace.outputs, seed).split(PROBES_AT_ONCE)
    sums = _sums(trace, first, directions, cotangents)
    along = _pass(trace, first, directions, sums, cotangents, known)
    sums.over_ranks(all_sum)
    estimates = {name: probe_estimates(found, population) for name, found in sums.layers.items()}
    spreads = [gradient_spread(found, population) for found in sums.layers.values()]
    of_weights = {
        name: weight_estimates(
            trace.layers[name].weight, found.pulled, _growth(along[name], estimator, all_sum)
        )
        for name, found in sums.layers.items()
    }
    for block in others:
        del sums  # weight gradients of all layers, for every probe
        sums = _sums(trace, block, directions)
        _pass(trace, block, directions, sums)
        sums.over_ranks(all_sum)
        for name, found in sums.layers.items():
            estimates[name] = estimates[name].joined(probe_estimates(found, population))
    values = {name: [*estimates[name], *of_weights[name].known()] for name in estimates}
    left_out = not_finite_layers(values, layers)
    variance, square = output_moments(trace.outputs, estimator=estimator, all_sum=all_sum)
    is_precise = min(map(float, spreads)) > LEAST_SPREAD and bool(variance > LEAST_OUTPUT_SPREAD * square)
    scalars = {
        name: layer_scalars(
            estimates[name],
            of_weights[name],
            output_variance=variance,
            is_exact=num_probes is None,
            is_positive=estimator == "plugin",
        )
        for name in estimates
        if name not in left_out
    }
    return CoveredLayers(scalars, trace.left_out | left_out), is_precise


def _population(views: Inputs, estimator: Estimator, all_sum: AllSum) -> Population:
    num_own, num_views = check_views(views)
    num_samples = int(all_sum(torch.tensor(num_own, device=device_of(views))))
    if num_views < 2 or num_samples < 2:
        raise InputError(
            f"Expected at least 2 views of at least 2 samples, got {num_views} views of {num_samples}; "
            "pass a batch of positive pairs."
        )
    return Population(num_samples, num_views, estimator)


def _probes(num_probes: int | None, outputs: Tensor, seed: int) -> Tensor:
    num_outputs = outputs.shape[2]
    if num_probes is None:
        return torch.eye(num_outputs, dtype=outputs.dtype, device=outputs.device)
    return rademacher_probes(num_probes, num_outputs, generator=torch.Generator().manual_seed(seed)).to(
        outputs
    )


def _growth(along: Sequence[Tensor], estimator: Estimator, all_sum: AllSum) -> Tensor | None:
    # w^T OP w from K^T w of every view, where that is known
    return output_moments(torch.cat([*along]), estimator=estimator, all_sum=all_sum)[0] if along else None


def _sums(
    trace: ChunkedTrace,
    probes: Tensor,
    directions: Mapping[str, WeightDirections],
    cotangents: Sequence[Tensor] = (),
) -> BatchSums:
    return BatchSums(
        trace.layers,
        num_probes=len(probes),
        num_sketches=next(iter(directions.values())).num_directions,
        num_pulled=len(cotangents),
        like=trace.outputs,
    )


def _pass(
    trace: ChunkedTrace,
    probes: Tensor,
    directions: Mapping[str, WeightDirections],
    sums: BatchSums,
    cotangents: Sequence[Tensor] = (),
    known: Sequence[str] = (),
) -> dict[str, list[Tensor]]:
    # one pass over the chunks fills the sums of every layer, and gives K^T w of every view for the layers in `known`
    along: dict[str, list[Tensor]] = {name: [] for name in trace.layers}

    def take_in(chunk: NetworkTrace, outputs: Tensor, *columns: Tensor) -> None:
        for start in range(0, len(probes), trace.num_columns):
            at_once = slice(start, start + trace.num_columns)
            deltas = [chunk.backward(probe.expand_as(chunk.outputs)) for probe in probes[at_once]]
            for name, seen in chunk.layers.items():
                own, found = [delta.pop(name) for delta in deltas], sums.layers[name].of_probes(at_once)
                add_samples(found, seen, own, outputs, probes[at_once], directions[name])
        for index, column in enumerate(columns):
            for name, gradient in chunk.weight_gradients(column.flatten(0, 1)).items():
                sums.layers[name].pulled[index] += gradient
        for name in known:
            along[name].append(output_derivative(chunk, name)(chunk.layers[name].weight).view_as(outputs))

    trace.map(take_in, trace.outputs, *cotangents)
    return along
