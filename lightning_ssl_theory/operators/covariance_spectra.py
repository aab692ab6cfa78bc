r"""Spectra of named layers' covariance operators, by the cheaper of two ways.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Theorem 3.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import nn

from lightning_ssl_theory.checks import InputError, check_finite, check_instance, check_integer, check_word
from lightning_ssl_theory.distributed import AllGatherRows, AllSum, identity
from lightning_ssl_theory.operators.covariance_operators import as_rows, check_pass, check_views
from lightning_ssl_theory.operators.covered_layers import NOT_FINITE, CoveredLayers, NotFiniteGradientsError
from lightning_ssl_theory.operators.spectrum import Spectrum, gram_spectrum, lanczos_spectrum
from lightning_ssl_theory.tracing.chunked_trace import MEMORY_BUDGET, ChunkedTrace
from lightning_ssl_theory.tracing.inputs import Inputs, device_of, rows_of, tensors_of
from lightning_ssl_theory.tracing.layer_names import LayerChoice, exact_names, resolve_layers, weight_places
from lightning_ssl_theory.tracing.network_output import Output
from lightning_ssl_theory.tracing.network_trace import trace_network
from lightning_ssl_theory.tracing.plain_torch import full_precision

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
    dropout_seed: int | None = None,
    dtype: torch.dtype | None = None,
    all_sum: AllSum = identity,
    all_gather_rows: AllGatherRows = identity,
) -> CoveredLayers[Spectrum]:
    r"""Leading eigenpairs of the plug-in operators OP_l = V_x[bar K_l] of named layers.

    Args:
        model: A network; see `covariance_operators`. Nothing of it is changed.
        views: A views of this rank's n samples, (n, A, *input), or a dictionary of such tensors.
        layers: Dotted paths, patterns and types; see `rehearse`.
        num_eigenvalues: k.
        method: "gram" for all eigenvalues from all n_L unit probes, "lanczos" for the leading ones from products OP v,
            or the one that `SpectrumCost` says is cheaper.
        output: What to call instead of `model`, or what to choose of its output.
        memory_budget: Bytes that a chunk of samples, or the Gram matrix's factor, may take.
        dropout_seed: Leaves dropout on, with masks from this seed, in one chunk only.
        dtype: Precision; that of the floating views, else of the network, by default.
        all_sum: Sum over ranks.
        all_gather_rows: Rows of all ranks.

    Returns:
        A spectrum for each layer, equal on every rank; `left_out` says why a layer has none. All layers share one
        forward pass where the budget holds it.

    Raises:
        InputError: If k exceeds what the rank can be, there is one sample, or Lanczos does not converge; see
            `covariance_scalars` for what else is refused.
        NotFiniteGradientsError: If the gradients of a layer named by its path, or of all, are not finite.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> views = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
        >>> covariance_spectra(model, views, "", num_eigenvalues=1)[""].eigenvalues.tolist()
        [1.0]
    """
    check_instance(model, "model", nn.Module)
    num_own, _ = check_views(views)
    check_integer(num_eigenvalues, "num_eigenvalues")
    check_word(method, "method", Method)
    check_integer(memory_budget, "memory_budget")
    check_instance(dtype, "dtype", torch.dtype, or_none=True)
    check_pass(dropout_seed=dropout_seed, all_sum=all_sum, all_gather_rows=all_gather_rows)
    num_samples = int(all_sum(torch.tensor(num_own, device=device_of(views))))
    if num_samples < 2:
        raise InputError(
            f"Expected at least 2 samples for a covariance, got {num_samples}; pass a larger batch."
        )
    if not resolve_layers(model, layers):
        return CoveredLayers({}, {})
    trace = ChunkedTrace(
        model,
        views,
        layers,
        output=output,
        memory_budget=memory_budget,
        dropout_seed=dropout_seed,
        dtype=dtype,
        all_sum=all_sum,
    )
    found: dict[str, Spectrum] = {}
    failed: list[str] = []
    for name, layer in trace.layers.items():
        num_weights, num_rows = layer.weight.numel(), (num_samples - 1) * trace.outputs.shape[2]
        if not 1 <= num_eigenvalues <= min(num_weights, num_rows):
            raise InputError(
                f"Expected `num_eigenvalues` between 1 and {min(num_weights, num_rows)}, the largest rank possible at "
                f"layer {name!r}, got {num_eigenvalues}; lower it or pass more samples."
            )
        is_gram = method == "gram" or num_eigenvalues == num_weights
        if method == "cheaper" and not is_gram:
            cost = spectrum_cost(model, views, name, num_samples, num_eigenvalues, output=output)
            is_dear = cost.gram > cost.lanczos or cost.gram_bytes > memory_budget
            is_gram = not all_sum(torch.tensor(int(is_dear), device=device_of(views)))
        try:
            if is_gram:
                found[name] = gram_spectrum(
                    trace, name, num_eigenvalues, all_sum=all_sum, all_gather_rows=all_gather_rows
                )
            else:
                found[name] = lanczos_spectrum(trace, name, num_eigenvalues, all_sum=all_sum)
        except NotFiniteGradientsError:
            failed.append(name)
    for name in failed:
        if not found or name in exact_names(layers):
            raise NotFiniteGradientsError(name)
    return CoveredLayers(found, trace.left_out | dict.fromkeys(failed, NOT_FINITE))


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
    """What the spectrum of one layer costs, counted on three samples.

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
    check_instance(model, "model", nn.Module)
    check_views(views)
    for tensor in tensors_of(views):
        check_finite(tensor, "views")
    check_instance(layer, "layer", str)
    check_integer(num_samples, "num_samples")
    check_integer(num_eigenvalues, "num_eigenvalues")
    trace = trace_network(model, as_rows(rows_of(views, slice(3))), [nn.Module, layer], output=output)
    seen = trace.layers
    products = {name: found.weight.numel() * found.patches().shape[3] for name, found in seen.items()}
    names = [name for name in weight_places(model, with_aliases=True) if name in seen]
    above = sum(products[name] for name in names[names.index(layer) :] if seen[name].kind.is_dense)
    num_views, num_outputs = tensors_of(views)[0].shape[1], trace.outputs.shape[1]
    num_weights, num_rows = seen[layer].weight.numel(), num_samples * num_outputs
    small, large = sorted((num_weights, num_rows))
    one_pass = num_samples * num_views * (above + products[layer])
    return SpectrumCost(
        gram=num_outputs * one_pass + small * small * large,
        lanczos=(4 * num_eigenvalues + 20) * 3 * one_pass,
        gram_bytes=8 * small * (num_weights if small == num_weights else large),
    )
