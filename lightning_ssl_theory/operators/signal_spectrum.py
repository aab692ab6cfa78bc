r"""Spectra of small layers' covariance operators over all ranks, from all unit probes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_ssl_theory.distributed import all_gather_rows, row_offset
from lightning_ssl_theory.operators.layer_trace import NetworkTrace
from lightning_ssl_theory.operators.weight_maps import sample_gradients

MAX_FACTOR_ENTRIES = 2**27


def signal_spectrum(trace: NetworkTrace, layers: Sequence[str], *, num_views: int) -> dict[str, Tensor]:
    r"""Eigenvalues of the plug-in operators OP_l = V_x[bar K_l] of named layers.

    The factor with rows `bar K_i u_c` is gathered from all ranks; its centred singular values, squared, are the
    eigenvalues.

    Args:
        trace: A forward pass over this rank's N A views, the views of a sample next to each other.
        layers: Paths of traced layers.
        num_views: A.

    Returns:
        For each layer (min(P, N n_L),) in falling order, equal on every rank, float64. n_L backward passes; time
        O(min(P, N n_L)^2 max(P, N n_L)); what crosses ranks is N n_L P numbers a layer.

    Raises:
        ValueError: If a layer was not traced, or its factor has more than 2^27 entries.
    """
    if not layers:
        return {}
    outputs = trace.outputs
    _, num_samples = row_offset(len(outputs) // num_views)
    for name in layers:
        _check_size(trace, name, num_samples * outputs.shape[1])
    rows: dict[str, list[Tensor]] = {name: [] for name in layers}
    for probe in torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device):
        deltas, _ = trace.backward(probe.expand_as(outputs))
        for name in layers:
            seen = trace.layers[name]
            gradients = sample_gradients(seen.layer, seen.inputs, deltas[name])
            rows[name].append(gradients.unflatten(0, (-1, num_views)).mean(1))
    return {name: _spectrum(torch.stack(found, dim=1)) for name, found in rows.items()}


def _check_size(trace: NetworkTrace, name: str, num_rows: int) -> None:
    if name not in trace.layers:
        raise ValueError(
            f"Expected the forward pass to reach layer {name!r}, it did not; "
            "name layers that the output depends on."
        )
    num_entries = num_rows * trace.layers[name].weight.numel()
    if num_entries > MAX_FACTOR_ENTRIES:
        raise ValueError(
            f"Expected at most {MAX_FACTOR_ENTRIES} gradient entries for the spectrum of layer {name!r}, "
            f"got {num_entries}; name a smaller layer or lower `num_samples`."
        )


def _spectrum(means: Tensor) -> Tensor:
    factor = all_gather_rows(means.double())  # (N, n_L, P)
    centred = (factor - factor.mean(0)).flatten(0, 1)
    gram = centred.mT @ centred if centred.shape[0] > centred.shape[1] else centred @ centred.mT
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0) / len(factor)
