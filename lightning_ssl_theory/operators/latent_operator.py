r"""The covariance operator of every latent of a tree network, from the mean connections given the root.

For the group of latent mu, with the connection K_mu(x) (P_mu, n_L) between its weights and the output,

.. math:: OP_\mu = V_{z_0}\big[E[K_\mu | z_0]\big] = p_0 p_1 D D^\top, \quad D = E[K_\mu | 1] - E[K_\mu | 0]

so that its trace is p_0 p_1 ||D||_F^2 and its Frobenius norm p_0 p_1 ||D^T D||_F: nothing of size P_mu x P_mu is
formed. The mean connections are sums over samples, so batches and ranks merge by addition.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Section 5.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_instance, check_shape
from lightning_ssl_theory.tracing.layer_trace import LayerTrace
from lightning_ssl_theory.tracing.network_trace import NetworkTrace


class LatentOperatorNorms(NamedTuple):
    """Size of the operators of the M latents of a level."""

    trace: Tensor
    """tr OP_mu (M,), squared gradient units."""
    frobenius_norm: Tensor
    """||OP_mu||_F (M,)."""


class ConnectionSums(NamedTuple):
    """Connections of one level, summed over the samples of either root."""

    samples: Tensor
    """Samples by the value of the root (2,)."""
    total: Tensor
    """Sums of K_mu^T (2, M, n_L, P_mu)."""


@torch.inference_mode(False)
def connection_sums(trace: NetworkTrace, roots: Tensor) -> dict[str, ConnectionSums]:
    """Sums of the connections of all traced layers over the samples of either root.

    Args:
        trace: A forward pass over N samples; the layers are `BlockLinear` with one block for each latent, or
            `nn.Linear` for one latent.
        roots: z_0 of each sample, (N,), 0 or 1.

    Returns:
        The sums for each layer, in the precision of the pass. All n_L backward passes are made as one, batched;
        O(n_L) forward passes of time and memory.

    Raises:
        InputError: If the number of roots is not that of the samples, or a layer puts out more than vectors.
    """
    check_instance(trace, "trace", NetworkTrace)
    check_shape(roots, "roots", str(len(trace.outputs)))
    if not bool(((roots == 0) | (roots == 1)).all()):
        raise InputError("Expected `roots` of zeros and ones, got other values; pass binary latents.")
    for name, seen in trace.layers.items():
        if seen.outputs.ndim != 2:
            raise InputError(
                f"Expected layer {name!r} to put out (N, M G), got {tuple(seen.outputs.shape)}; "
                "name a Linear or a BlockLinear layer."
            )
    num_outputs = trace.outputs.shape[1]
    units = torch.eye(num_outputs, dtype=trace.outputs.dtype, device=trace.outputs.device)
    deltas = torch.autograd.grad(
        trace.outputs,
        [seen.outputs for seen in trace.layers.values()],
        units.unsqueeze(1).expand(-1, *trace.outputs.shape),
        is_grads_batched=True,
        retain_graph=True,
    )
    is_one = roots.to(trace.outputs)
    values = torch.stack([1 - is_one, is_one])
    return {
        name: ConnectionSums(values.sum(1), _sums(seen, delta, values))
        for (name, seen), delta in zip(trace.layers.items(), deltas, strict=True)
    }


def latent_operator_norms(sums: ConnectionSums) -> LatentOperatorNorms:
    """Trace and Frobenius norm of the operator of each latent.

    Args:
        sums: Connections summed over the samples of either root, over all batches and ranks.

    Returns:
        LatentOperatorNorms in float64. O(M P n_L^2) time.

    Raises:
        InputError: If one value of the root has no sample.
    """
    check_instance(sums, "sums", ConnectionSums)
    if not bool((sums.samples > 0).all()):
        raise InputError(
            f"Expected samples of both roots, got {sums.samples.tolist()} of 0 and 1; pass more samples."
        )
    count = sums.samples.double()
    zero, one = sums.total.double() / count[:, None, None, None]
    share = count / count.sum()
    gap = (one - zero) * share.prod().sqrt()
    return LatentOperatorNorms(gap.square().sum((1, 2)), torch.linalg.matrix_norm(gap @ gap.mT))


# (2, M, n_L, P_mu): for each value of the root, group and output the weight gradient summed over samples.
def _sums(seen: LayerTrace, deltas: Tensor, values: Tensor) -> Tensor:
    num_groups, num_outputs = seen.kind.grouped_shape[0], len(deltas)
    inputs = seen.inputs.unflatten(1, (num_groups, -1)).permute(1, 2, 0)  # (M, F, S)
    rows = (inputs.unsqueeze(1) * values.unsqueeze(1)).flatten(1, 2)
    columns = deltas.unflatten(2, (num_groups, -1)).permute(2, 1, 0, 3).flatten(2)  # (M, S, n_L O)
    sums = (rows @ columns).unflatten(1, (2, -1)).unflatten(3, (num_outputs, -1))  # (M, 2, F, n_L, O)
    return sums.permute(1, 0, 3, 4, 2).flatten(3)
