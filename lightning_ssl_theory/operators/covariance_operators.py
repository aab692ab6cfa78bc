r"""Covariance operators of the layers of any network, from views of samples.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Theorems 3 and 4.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import (
    InputError,
    check_callable,
    check_finite,
    check_instance,
    check_integer,
    check_shape,
    check_word,
)
from lightning_ssl_theory.operators.covariance_operator import Connections, CovarianceOperator
from lightning_ssl_theory.operators.covered_layers import CoveredLayers, not_finite_layers
from lightning_ssl_theory.operators.pair_coefficients import (
    Estimator,
    Part,
    check_estimator,
    pair_coefficients,
)
from lightning_ssl_theory.tracing.inputs import Inputs, map_inputs, tensors_of
from lightning_ssl_theory.tracing.layer_names import LayerChoice
from lightning_ssl_theory.tracing.network_output import Output
from lightning_ssl_theory.tracing.network_trace import NetworkTrace, check_finite_outputs, trace_rehearsed
from lightning_ssl_theory.tracing.plain_torch import full_precision
from lightning_ssl_theory.tracing.rehearsal import rehearse
from lightning_ssl_theory.tracing.weight_directions import rademacher_probes

PairWeight = Callable[[Tensor], Tensor]


@full_precision
@torch.inference_mode(False)
def covariance_operators(
    model: nn.Module,
    views: Inputs,
    layers: Sequence[LayerChoice] | LayerChoice | None = None,
    pair_weight: PairWeight | None = None,
    num_probes: int | None = None,
    *,
    estimator: Estimator = "plugin",
    part: Part = "signal",
    output: Output = None,
    dropout_seed: int | None = None,
    generator: torch.Generator | None = None,
) -> CoveredLayers[CovarianceOperator]:
    r"""Covariance operators OP_l of a network's layers.

    .. math:: OP_l = V_x\big[\bar K_l(x)\big], \quad \bar K_l(x) = E_{aug}[K_l(x')], \quad
        OP^\xi_l = \tfrac12 E_{x,x'}\big[\xi(r)(\bar K_l - \bar K_l')(\bar K_l - \bar K_l')^T\big]

    K_l is the transposed per-sample Jacobian of the output with respect to the layer's weight (biases excluded), in
    the order of `weight.reshape(-1)`; r = 1/2 ||barf - barf'||^2. With all pairs of views, L_simp has the gradient
    -2 OP_l w_l exactly in bias-free (leaky-)ReLU networks.

    Args:
        model: A network; BatchNorm layers in training mode use the batch's own statistics, held constant, those in
            evaluation mode their running ones; dropout is off. Nothing of the model is changed.
        views: A views of N samples, (N, A, *input), or a dictionary of such tensors; floating ones decide the
            arithmetic's precision.
        layers: Dotted paths, patterns and types; see `rehearse`. Every layer whose weight mixes features, and that the
            output depends on, by default.
        pair_weight: xi as a function of the matrix r, (N, N) -> (N, N), for example a loss's `pair_weight`.
        num_probes: `None` for the exact operators (n_L backward passes), m for estimates from m random probes.
        estimator: "plugin" (the views are the population, 1/N) or "unbiased" (THEORY's U, for an infinite one).
        part: "signal" for OP, "augmentation" for OP^aug, the mean covariance over the views of a sample.
        output: What to call instead of `model`, for example a bound method of it, or the key or index of what the
            model puts out.
        dropout_seed: Leaves dropout on, with masks from this seed.
        generator: Source of random probes, on the CPU.

    Returns:
        An operator of shape (P, P) for each layer, by its path; `left_out` says why a layer has none. Time: one forward
        and n_L (or m) backward passes; memory: what each layer saw and sent back, for every probe.

    Raises:
        InputError: If `views` is not of shape (N, A, *input), a layer is unknown, one named by its path is refused or
            its gradients are not finite, no layer is left, or the output is not (., n_L).

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> views = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])  # two samples, one view each
        >>> covariance_operators(model, views)[""].to_dense().tolist()
        [[1.0, 0.0], [0.0, 0.0]]
    """
    check_instance(model, "model", nn.Module)
    num_samples, num_views = check_views(views)
    check_callable(pair_weight, "pair_weight", or_none=True)
    check_integer(num_probes, "num_probes", advice="use None for the exact operator", or_none=True)
    check_estimator(estimator)
    check_word(part, "part", Part)
    check_pass(dropout_seed=dropout_seed, generator=generator)
    rows = as_rows(views)
    rehearsal = rehearse(model, rows, layers, output=output, dropout_seed=dropout_seed)
    trace = trace_rehearsed(rehearsal, rows)
    outputs = trace.outputs
    check_finite_outputs(outputs)
    if num_probes is None:
        probes = torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
    else:
        probes = rademacher_probes(num_probes, outputs.shape[1], generator=generator).to(outputs)
    weights = None
    if pair_weight is not None:
        means = outputs.detach().unflatten(0, (num_samples, num_views)).mean(1)
        weights = pair_weight(half_squared_distances(means))
    coefficients = pair_coefficients(
        num_samples,
        num_views,
        weights=weights,
        estimator=estimator,
        part=part,
        dtype=outputs.dtype,
        device=outputs.device,
    )
    connections = layer_connections(trace, probes)
    left_out = not_finite_layers({name: own.factors() for name, own in connections.items()}, layers)
    operators = {
        name: CovarianceOperator(own, coefficients, is_exact=num_probes is None)
        for name, own in connections.items()
        if name not in left_out
    }
    return CoveredLayers(operators, rehearsal.left_out | left_out)


def layer_connections(trace: NetworkTrace, probes: Tensor) -> dict[str, Connections]:
    """The connections of every traced layer for probes of shape (m, n_L); m backward passes."""
    deltas: dict[str, list[Tensor]] = {name: [] for name in trace.layers}
    for probe in probes:
        for name, delta in trace.backward(probe.expand_as(trace.outputs)).items():
            deltas[name].append(delta)
    return {name: Connections(seen, deltas[name], len(trace.outputs)) for name, seen in trace.layers.items()}


def check_views(views: Inputs) -> tuple[int, int]:
    """N and A of views of shape (N, A, *input), or the sentence that says what is wrong with them."""
    for tensor in tensors_of(views):
        check_shape(tensor, "views", "N+ A+ *")
    shapes = {(len(tensor), tensor.shape[1]) for tensor in tensors_of(views) if tensor.ndim > 1}
    if len(shapes) > 1 or any(tensor.ndim < 3 for tensor in tensors_of(views)):
        found = sorted(tuple(tensor.shape) for tensor in tensors_of(views))
        raise InputError(
            f"Expected `views` of shape (N, A, *input), got {', '.join(map(str, found))}; "
            "stack the A views of each sample along dimension 1."
        )
    return shapes.pop()


def check_pass(
    *, dropout_seed: int | None = None, generator: torch.Generator | None = None, **functions: Any
) -> None:
    """Raise InputError unless what all looks take is of its kind: a seed, a generator, and functions by name."""
    check_integer(dropout_seed, "dropout_seed", at_least=-(2**63), or_none=True)
    check_instance(generator, "generator", torch.Generator, or_none=True)
    for name, function in functions.items():
        check_callable(function, name)


def as_rows(views: Inputs) -> Inputs:
    """The views below one another, those of a sample next to each other: (N, A, *input) -> (N A, *input)."""
    return map_inputs(lambda value: value.flatten(0, 1), views)


def half_squared_distances(features: Tensor) -> Tensor:
    """r_ij = 1/2 ||f_i - f_j||^2: (N, D) -> (N, N), exactly 0 on the diagonal, centred first."""
    check_shape(features, "features", "N D")
    check_finite(features, "features")
    features = features - features.mean(0)
    squares = features.square().sum(1)
    distances = (squares[:, None] + squares - 2 * features @ features.mT).clamp(min=0) / 2
    return distances - distances.diagonal().diag()
