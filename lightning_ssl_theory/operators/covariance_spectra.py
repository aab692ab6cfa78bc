r"""Spectra of named layers' covariance operators, by the cheaper of two ways.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Theorem 3.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import nn

from lightning_ssl_theory.distributed import AllGatherRows, AllSum, identity
from lightning_ssl_theory.operators.covariance_operators import check_views
from lightning_ssl_theory.operators.gram_spectrum import gram_spectrum
from lightning_ssl_theory.operators.lanczos_spectrum import lanczos_spectrum
from lightning_ssl_theory.operators.spectrum import Spectrum
from lightning_ssl_theory.tracing.chunked_trace import MEMORY_BUDGET, ChunkedTrace
from lightning_ssl_theory.tracing.full_precision import full_precision
from lightning_ssl_theory.tracing.inputs import Inputs, device_of, rows_of, tensors_of
from lightning_ssl_theory.tracing.layer_names import LayerChoice, resolve_layers
from lightning_ssl_theory.tracing.network_output import Output
from lightning_ssl_theory.tracing.network_trace import trace_network

Method = Literal["cheaper", "gram", "lanczos"]


@full_precision
@torch.inference_mode(False)
def covariance_spectra(
    model: nn.Module,
    views: Inputs,
    layers: Sequence[LayerChoice] | LayerChoice,
    *,
    num_eigenvalues: int = 8,
    method: Method = "cheaper",
    output: Output = None,
    memory_budget: int = MEMORY_BUDGET,
    all_sum: AllSum = identity,
    all_gather_rows: AllGatherRows = identity,
) -> dict[str, Spectrum]:
    r"""Leading eigenpairs of the plug-in operators OP_l = V_x[bar K_l] of named layers.

    Args:
        model: A network; see `covariance_operators`. Nothing of it is changed.
        views: A views of this rank's n samples, (n, A, *input), floating.
        layers: Dotted paths, patterns and types; see `resolve_layers`.
        num_eigenvalues: k.
        method: "gram" for all eigenvalues from all n_L unit probes, "lanczos" for the leading ones from products OP v,
            or the one that `SpectrumCost` says is cheaper.
        output: What to call instead of `model`.
        memory_budget: Bytes that a chunk of samples, or the Gram matrix's factor, may take.
        all_sum: Sum over ranks.
        all_gather_rows: Rows of all ranks.

    Returns:
        A spectrum for each layer, equal on every rank.

    Raises:
        ValueError: If k exceeds what the rank can be, there is one sample, or Lanczos does not converge; see
            `covariance_scalars` for what else is refused.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> views = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
        >>> covariance_spectra(model, views, "", num_eigenvalues=1)[""].eigenvalues.tolist()
        [1.0]
    """
    num_own, _ = check_views(views)
    num_samples = int(all_sum(torch.tensor(num_own, device=device_of(views))))
    if num_samples < 2:
        raise ValueError(
            f"Expected at least 2 samples for a covariance, got {num_samples}; pass a larger batch."
        )
    found: dict[str, Spectrum] = {}
    for name in resolve_layers(model, layers):
        trace = ChunkedTrace(
            model, views, [name], output=output, memory_budget=memory_budget, all_sum=all_sum
        )
        num_weights = trace.layers[name].weight.numel()
        num_rows = (num_samples - 1) * trace.outputs.shape[2]
        if not 1 <= num_eigenvalues <= min(num_weights, num_rows):
            raise ValueError(
                f"Expected `num_eigenvalues` between 1 and {min(num_weights, num_rows)}, the largest rank possible at "
                f"layer {name!r}, got {num_eigenvalues}; lower it or pass more samples."
            )
        if method == "cheaper":
            cost = spectrum_cost(model, views, name, num_samples, num_eigenvalues, output=output)
            is_gram = cost.gram <= cost.lanczos and cost.gram_bytes <= memory_budget
        else:
            is_gram = method == "gram"
        if is_gram or num_eigenvalues == num_weights:
            spectrum = gram_spectrum(
                trace, name, num_eigenvalues, all_sum=all_sum, all_gather_rows=all_gather_rows
            )
        else:
            spectrum = lanczos_spectrum(trace, name, num_eigenvalues, all_sum=all_sum)
        found[name] = spectrum
    return found


class SpectrumCost(NamedTuple):
    """Multiplications that each way takes, and the bytes of the factor whose products the first one needs."""

    gram: float
    lanczos: float
    gram_bytes: int


def spectrum_cost(
    model: nn.Module,
    views: Inputs,
    layer: str,
    num_samples: int,
    num_eigenvalues: int,
    *,
    output: Output = None,
) -> SpectrumCost:
    """What the spectrum of one layer costs, counted on one sample.

    With c multiplications of all Linear and Conv layers from this one on, a backward pass takes c, and a weight
    gradient P for each output position. The Gram way takes n_L backward passes and weight gradients of every view and
    O(min(P, N n_L)^2 max(P, N n_L)); Lanczos about 4 k + 20 products of 3 backward passes and 2 weight gradients.

    Args:
        model: The network.
        views: (n, A, *input), with n at least 1.
        layer: The layer's path.
        num_samples: N over all ranks.
        num_eigenvalues: k.
        output: What to call instead of `model`.

    Returns:
        The costs.
    """
    trace = trace_network(model, rows_of(views, 0), output=output)
    seen = dict(trace.layers)
    if layer not in seen:  # a normalisation layer
        seen |= trace_network(model, rows_of(views, 0), [layer], output=output).layers
    names = [name for name, _ in model.named_modules() if name in seen]
    products = {name: found.weight.numel() * found.patches().shape[3] for name, found in seen.items()}
    above = sum(products[name] for name in names[names.index(layer) :])
    num_views, num_outputs = tensors_of(views)[0].shape[1], trace.outputs.shape[1]
    num_weights, num_rows = seen[layer].weight.numel(), num_samples * num_outputs
    small, large = sorted((num_weights, num_rows))
    one_pass = num_samples * num_views * (above + products[layer])
    return SpectrumCost(
        gram=num_outputs * one_pass + small * small * large,
        lanczos=(4 * num_eigenvalues + 20) * 3 * one_pass,
        gram_bytes=8 * small * (num_weights if small == num_weights else large),
    )
