r"""Trace, signal ratio and growth rate of every layer's covariance operator, streamed over probes.

For a probe u, one backward pass gives each layer the factors of K_s u for all views s. What the scalars need of them
are sums over samples, so ranks merge by addition; no connection is kept, nothing of size P x P is formed.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Theorem 3 and Section 4.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.distributed import AllSum, identity
from lightning_ssl_theory.operators.layer_trace import LayerTrace, NetworkTrace
from lightning_ssl_theory.operators.pair_coefficients import Estimator, check_estimator
from lightning_ssl_theory.operators.probes import standard_error
from lightning_ssl_theory.operators.weight_maps import view_gram


class CovarianceScalars(NamedTuple):
    """Scalars of one layer's operator.

    Attributes:
        trace: tr OP, squared gradient units.
        trace_stderr: Its standard error over random probes; 0 where the probes are all unit vectors.
        signal_ratio: tr OP / (tr OP + tr OP^aug), in [0, 1]; the plug-in reads 1/A where the views of a sample are
            as far apart as those of different samples, the unbiased estimate 0.
        growth_rate: w^T OP w / ||w||^2; under L_simp d ln||w|| / dt is twice it (bias-free networks).
    """

    trace: Tensor
    trace_stderr: Tensor
    signal_ratio: Tensor
    growth_rate: Tensor


def covariance_scalars(
    trace: NetworkTrace,
    probes: Tensor,
    *,
    num_views: int,
    is_exact: bool,
    estimator: Estimator = "plugin",
    all_sum: AllSum = identity,
) -> dict[str, CovarianceScalars]:
    """Scalars of the covariance operators of all traced layers.

    Args:
        trace: A forward pass over this rank's N A views, the views of a sample next to each other.
        probes: (m, n_L), the same on every rank: random with E[uu^T] = I, or all n_L unit vectors.
        num_views: A, at least 2.
        is_exact: Whether the probes are all unit vectors.
        estimator: "plugin" (1/N) or "unbiased" (for an infinite population).
        all_sum: Sum over ranks; what crosses is one weight gradient and five numbers a layer and probe.

    Returns:
        Scalars in float64 for each layer. Time O(m) backward passes and view Grams.

    Raises:
        ValueError: If there are fewer than two views or, over all ranks, two samples, or the estimator is unknown.
    """
    check_estimator(estimator)
    num_samples = int(all_sum(torch.tensor(len(trace.outputs) // num_views, device=trace.outputs.device)))
    if num_views < 2 or num_samples < 2:
        raise ValueError(
            f"Expected at least 2 views of at least 2 samples, got {num_views} views of {num_samples}; "
            "pass a batch of positive pairs."
        )
    sums: dict[str, list[Tensor]] = {name: [] for name in trace.layers}
    for probe in probes:
        deltas, gradients = trace.backward(probe.expand_as(trace.outputs))
        for name, seen in trace.layers.items():
            sums[name].append(_probe_sums(seen, deltas[name], gradients[name], num_views, all_sum))
    return {
        name: _scalars(torch.stack(values), seen.weight, num_samples, num_views, is_exact, estimator)
        for (name, seen), values in zip(trace.layers.items(), sums.values(), strict=True)
    }


def _probe_sums(seen: LayerTrace, delta: Tensor, gradient: Tensor, num_views: int, all_sum: AllSum) -> Tensor:
    # Sums over samples of ||bar K u||^2, ||K u||^2, (w.bar K u)^2, (w.K u)^2, w.bar K u; and ||sum bar K u||^2.
    gram = view_gram(seen.layer, seen.inputs, delta, num_views).double()
    scores = (delta * seen.linear_outputs).flatten(1).sum(1).double().unflatten(0, (-1, num_views))
    local = torch.stack(
        [
            gram.sum() / num_views**2,
            gram.diagonal(dim1=1, dim2=2).sum() / num_views,
            scores.mean(1).square().sum(),
            scores.square().mean(1).sum(),
            scores.mean(1).sum(),
        ]
    )
    total = all_sum(gradient).double() / num_views
    return torch.cat([all_sum(local), total.square().sum()[None]])


def _scalars(
    sums: Tensor, weight: Tensor, num_samples: int, num_views: int, is_exact: bool, estimator: Estimator
) -> CovarianceScalars:
    means, views, mean_scores, view_scores, score, total = sums.unbind(1)  # one entry a probe

    def estimates(of_means: Tensor, of_views: Tensor, of_total: Tensor) -> tuple[Tensor, Tensor]:
        between = of_means / num_samples - of_total / num_samples**2
        within = (of_views - of_means) / num_samples
        if estimator == "unbiased":
            within = within * num_views / (num_views - 1)
            between = between * num_samples / (num_samples - 1) - within / num_views
        return between, within

    signal, augmentation = estimates(means, views, total)
    growth, _ = estimates(mean_scores, view_scores, score.square())
    scale = len(sums) if is_exact else 1  # a sum over unit probes, a mean over random ones
    trace, noise = signal.mean() * scale, augmentation.mean() * scale
    total_variance = (trace + noise).clamp(min=torch.finfo(torch.float64).tiny)
    stderr = trace.new_zeros(()) if is_exact else standard_error(signal)
    squared_norm = weight.detach().double().square().sum().clamp(min=torch.finfo(torch.float64).tiny)
    return CovarianceScalars(
        trace=trace,
        trace_stderr=stderr,
        signal_ratio=(trace / total_variance).clamp(0, 1),
        growth_rate=growth.mean() * scale / squared_norm,
    )
