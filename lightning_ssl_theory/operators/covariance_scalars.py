r"""Scalars of every layer's covariance operator, streamed over probes and samples.

For a probe u, one backward pass gives each layer the factors of K_s u for all views s. What the scalars need of them
are sums over samples, so chunks and ranks merge by addition; no connection is kept, nothing of size P x P is formed.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Theorem 3 and Section 4.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.operators.covariance_operators import check_views
from lightning_ssl_theory.operators.covariance_sums import CovarianceSums, layer_sums
from lightning_ssl_theory.operators.output_cotangents import (
    PairwiseObjective,
    covariance_cotangents,
    gradient_cotangents,
)
from lightning_ssl_theory.operators.pair_coefficients import Estimator, check_estimator
from lightning_ssl_theory.operators.scalar_estimates import (
    CovarianceScalars,
    Population,
    ProbeEstimates,
    layer_scalars,
    probe_estimates,
)
from lightning_ssl_theory.tracing.chunked_trace import MEMORY_BUDGET, ChunkedTrace
from lightning_ssl_theory.tracing.full_precision import full_precision
from lightning_ssl_theory.tracing.inputs import Inputs, device_of
from lightning_ssl_theory.tracing.layer_names import LayerChoice
from lightning_ssl_theory.tracing.network_output import Output
from lightning_ssl_theory.tracing.weight_directions import WeightDirections, rademacher_probes

PROBES_AT_ONCE = 8


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
    output: Output = None,
    num_sketches: int = 64,
    memory_budget: int = MEMORY_BUDGET,
    generator: torch.Generator | None = None,
    all_sum: AllSum = identity,
) -> dict[str, CovarianceScalars]:
    """Trace, signal ratio, growth rate and Frobenius norm of the operators, and how well they predict a gradient.

    Args:
        model: A network; see `covariance_operators`. Nothing of it is changed.
        views: A views of this rank's n samples, (n, A, *input), floating; they decide the arithmetic's precision.
        layers: Dotted paths, patterns and types; see `resolve_layers`. All that the output depends on by default.
        num_probes: m random probes; `None` for all n_L unit vectors.
        loss: A pairwise loss of two views whose gradient is predicted.
        estimator: "plugin" (the views are the population, 1/N) or "unbiased" (for an infinite one).
        output: What to call instead of `model`.
        num_sketches: r random weight vectors for the Frobenius norm.
        memory_budget: Bytes that a chunk of samples may take; see `ChunkedTrace`.
        generator: Source of probes and weight vectors on the CPU, in the same state on every rank.
        all_sum: Sum over ranks; what crosses is m + 2 weight gradients and 2 m r^2 numbers a layer.

    Returns:
        Scalars in float64 for each layer, equal on every rank. One forward pass (a second without gradients where the
        budget asks for chunks), m + 1 backward passes, 2 more with a loss, and the sums of per-sample gradients.

    Raises:
        ValueError: If there are fewer than two views or, over all ranks, two samples; if a layer is unknown or refused,
            its gradients are not finite, or the budget does not hold one sample.
        TypeError: If `views` is not floating.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> views = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[-1.0, 0.0], [-1.0, 0.0]]])
        >>> float(covariance_scalars(model, views, num_probes=None)[""].trace)
        1.0
    """
    check_estimator(estimator)
    num_own, num_views = check_views(views)
    num_samples = int(all_sum(torch.tensor(num_own, device=device_of(views))))
    if num_views < 2 or num_samples < 2:
        raise ValueError(
            f"Expected at least 2 views of at least 2 samples, got {num_views} views of {num_samples}; "
            "pass a batch of positive pairs."
        )
    trace = ChunkedTrace(
        model,
        views,
        layers,
        output=output,
        num_columns=min(num_probes or PROBES_AT_ONCE, PROBES_AT_ONCE),
        memory_budget=memory_budget,
        all_sum=all_sum,
    )
    seed = int(torch.randint(2**62, (), generator=generator))
    population = Population(num_samples, num_views, estimator)
    probes = _probes(num_probes, trace.outputs, seed)
    covariance = covariance_cotangents(trace.outputs, estimator=estimator, all_sum=all_sum)
    cotangents = [covariance, *(gradient_cotangents(trace.outputs, loss) if loss is not None else ())]
    directions = {
        name: WeightDirections(layer.kind, num_sketches, seed=seed + 1 + 3 * index, like=trace.outputs)
        for index, (name, layer) in enumerate(trace.layers.items())
    }
    found: dict[str, ProbeEstimates] = {}
    for block in probes.split(PROBES_AT_ONCE):
        for name, sums in _block_sums(trace, block, directions).items():
            estimates = probe_estimates(sums.over_ranks(all_sum), population)
            found[name] = found[name].joined(estimates) if name in found else estimates
    gradients = _weight_gradients(trace, cotangents)
    output_variance = all_sum((trace.outputs * covariance).double().sum())
    return {
        name: layer_scalars(
            name,
            estimates,
            weight=trace.layers[name].weight,
            gradients=[all_sum(gradient) for gradient in gradients[name]],
            output_variance=output_variance,
            is_exact=num_probes is None,
        )
        for name, estimates in found.items()
    }


def _probes(num_probes: int | None, outputs: Tensor, seed: int) -> Tensor:
    num_outputs = outputs.shape[2]
    if num_probes is None:
        return torch.eye(num_outputs, dtype=outputs.dtype, device=outputs.device)
    return rademacher_probes(num_probes, num_outputs, generator=torch.Generator().manual_seed(seed)).to(
        outputs
    )


def _block_sums(
    trace: ChunkedTrace, probes: Tensor, directions: Mapping[str, WeightDirections]
) -> dict[str, CovarianceSums]:
    sums: dict[str, CovarianceSums] = {}
    for chunk, outputs in zip(trace, trace.split(trace.outputs), strict=True):
        deltas = [chunk.backward(probe.expand_as(chunk.outputs)) for probe in probes]
        for name, seen in chunk.layers.items():
            found = layer_sums(seen, [delta.pop(name) for delta in deltas], outputs, probes, directions[name])
            sums[name] = sums[name].plus(found) if name in sums else found
    return sums


def _weight_gradients(trace: ChunkedTrace, cotangents: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    sums: dict[str, list[Tensor]] = {}
    for chunk, *columns in zip(trace, *map(trace.split, cotangents), strict=True):
        found = [chunk.weight_gradients(column.flatten(0, 1)) for column in columns]
        for name in chunk.layers:
            own = [gradients[name] for gradients in found]
            sums[name] = [a + b for a, b in zip(sums[name], own, strict=True)] if name in sums else own
    return sums
