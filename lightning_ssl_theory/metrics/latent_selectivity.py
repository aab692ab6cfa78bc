r"""How well groups of neurons know the binary latents that they stand for.

For neuron j of the group of latent mu, with activation f_j and latent z in {0, 1}:

.. math:: s_j = \tfrac12 \big(E[f_j | z = 1] - E[f_j | z = 0]\big), \quad
    NC_\mu = \max_j |\mathrm{corr}(f_j, z)|

On pre-activations :math:`w_j^\top f_{ch} + b_j` the same :math:`s_j` is :math:`w_j^\top a_\mu` exactly, since
:math:`a_\mu = [\rho_{\mu\nu(k)} s_k]_k` is the selectivity of the children's activations for z_mu.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_dtype, check_finite, check_integer, check_shape
from lightning_ssl_theory.metrics.sum_metric import SumMetric
from lightning_ssl_theory.moments import to_float64, variance_from_sums

TIE = 1e-6
"""Relative difference of two neurons that rounding in float32 may make or take away."""


class LatentSelectivityValues(NamedTuple):
    """What M groups of G neurons know of their M latents. Latents with one value only are NaN."""

    selectivity: Tensor
    """s (M, G), in units of the features."""
    correlation: Tensor
    """Correlation of every neuron with its latent (M, G), in [-1, 1]; 0 for constant neurons."""
    normalized_correlation: Tensor
    """NC (M,): the largest absolute correlation in each group."""
    best_node: Tensor
    """The neuron that has it (M,)."""
    is_active: Tensor
    """Whether a neuron is positive on some sample (M, G), bool."""


class _Sums(NamedTuple):
    samples: Tensor  # (M, 2), samples by the value of the latent
    feature_sum: Tensor  # (2, M, G), likewise
    square_sum: Tensor  # (M, G)
    positive_count: Tensor  # (M, G)


def latent_selectivity(features: Tensor, latents: Tensor) -> LatentSelectivityValues:
    r"""Selectivity and normalised correlation of groups of neurons for binary latents.

    .. math:: s_j = \tfrac12 \big(E[f_j | z = 1] - E[f_j | z = 0]\big), \quad
        NC_\mu = \max_j |\mathrm{corr}(f_j, z_\mu)|

    Args:
        features: Activations of M groups of G neurons, (N, M G) or (N, M, G), any real dtype. Pre- or
            post-activations, which the caller should say; the reference's NC is of pre-activations.
        latents: Their latents, (N, M), zeros and ones.

    Returns:
        LatentSelectivityValues in float64. O(N M G) time and memory.

    Raises:
        InputError: If the shapes do not fit, there is no latent, a value is not finite, or a latent is neither 0
            nor 1.

    References:
        Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
        Networks", 2020, Section 6.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [0.0, -1.0], [4.0, 1.0], [4.0, -1.0]])
        >>> found = latent_selectivity(x, torch.tensor([[0], [0], [1], [1]]))
        >>> found.selectivity.tolist(), found.normalized_correlation.tolist()
        ([[2.0, 0.0]], [1.0])
    """
    check_shape(features, "features", "N+ M *")
    return _compute(_update(features, latents))


class LatentSelectivity(SumMetric):
    """What M groups of G neurons know of their latents over all batches and ranks; see `latent_selectivity`.

    State: 2 M + 4 M G float64 numbers.

    Args:
        num_latents: M.
        group_size: G.
        **kwargs: Passed on to `torchmetrics.Metric`.

    Example:
        >>> metric = LatentSelectivity(num_latents=1, group_size=1)
        >>> metric.update(torch.tensor([[0.0], [4.0]]), torch.tensor([[0], [1]]))
        >>> float(metric.compute().selectivity)
        2.0
    """

    samples: Tensor
    feature_sum: Tensor
    square_sum: Tensor
    positive_count: Tensor

    def __init__(self, num_latents: int, group_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_integer(num_latents, "num_latents")
        check_integer(group_size, "group_size")
        self.num_latents, self.group_size = num_latents, group_size
        self.num_features = num_latents * group_size
        nodes = (num_latents, group_size)
        self._declare_sums(
            samples=(num_latents, 2), feature_sum=(2, *nodes), square_sum=nodes, positive_count=nodes
        )

    def update(self, features: Tensor, latents: Tensor) -> None:
        """Add a batch.

        Args:
            features: Shape (N, M G) or (N, M, G).
            latents: Shape (N, M), zeros and ones.
        """
        check_shape(features, "features", "N M *")
        check_shape(features.flatten(1), "features", f"N {self.num_features}")
        check_shape(latents, "latents", f"{len(features)} {self.num_latents}")
        self._add_sums(_update(features, latents)._asdict())

    def compute(self) -> LatentSelectivityValues:
        """The values over everything that was added.

        Returns:
            LatentSelectivityValues in float64.
        """
        return _compute(_Sums(self.samples, self.feature_sum, self.square_sum, self.positive_count))


def lucky_nodes(alignment: Tensor, is_active: Tensor) -> Tensor:
    r"""The neuron of every group that theory expects to win, from the network before training.

    Args:
        alignment: :math:`w_j^\top a_\mu`, the selectivity of the pre-activations, (M, G).
        is_active: Whether a neuron is positive on some sample, (M, G), bool.

    Returns:
        (M,): the active neuron with the largest positive alignment, -1 where there is none; the first of those that
        have it up to `TIE` of it, which rounding, and with it the number of ranks, would choose from.

    References:
        Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
        Networks", 2020, Theorem 5.

    Example:
        >>> lucky_nodes(torch.tensor([[0.1, 0.3], [-1.0, 0.0]]), torch.tensor([[True, False], [True, True]]))
        tensor([ 0, -1])
    """
    check_shape(alignment, "alignment", "M G+")
    check_shape(is_active, "is_active", f"{alignment.shape[0]} {alignment.shape[1]}")
    check_dtype(is_active, "is_active", torch.bool)
    check_finite(alignment, "alignment")
    active = alignment.where(is_active, 0)
    largest = active.amax(1, keepdim=True)
    node = (active >= largest * (1 - TIE)).int().argmax(1)
    return node.where(largest[:, 0] > 0, -1)


def check_both_values(found: LatentSelectivityValues) -> None:
    """Raise unless every latent took both of its values.

    Args:
        found: What was computed over all samples, the same on all ranks.

    Raises:
        InputError: If a latent was 0, or 1, on all samples.
    """
    (constant,) = found.normalized_correlation.reshape(-1).isnan().nonzero(as_tuple=True)
    if len(constant):
        raise InputError(
            f"Expected both values of every latent, latent {int(constant[0])} took only one; look at more samples."
        )


def check_latents(latents: Tensor, num_samples: int) -> None:
    """Raise unless there are binary latents for each sample. Waits for the device.

    Args:
        latents: (N, M), M >= 1, zeros and ones of any dtype.
        num_samples: N.

    Raises:
        InputError: If the shape does not fit, there is no latent, or a value is neither 0 nor 1.
    """
    check_shape(latents, "latents", f"{num_samples} M+")
    if not bool(((latents == 0) | (latents == 1)).all()):
        raise InputError("Expected `latents` of zeros and ones, got other values; pass binary latents.")


def _update(features: Tensor, latents: Tensor) -> _Sums:
    check_shape(features, "features", "N M *")
    check_latents(latents, len(features))
    num_latents = latents.shape[1]
    size, rest = divmod(features.shape[1:].numel(), num_latents)
    if rest or not size or features.ndim not in (2, 3):
        raise InputError(
            f"Expected `features` with the same number of neurons, one at least, for each of {num_latents} latents, "
            f"got {tuple(features.shape)}; pass (N, M, G)."
        )
    check_finite(features, "features")
    exact = to_float64(features).reshape(len(features), num_latents, size)
    is_one = to_float64(latents.to(torch.float32))
    ones = is_one.sum(0)
    total, total_one = exact.sum(0), (exact * is_one.unsqueeze(2)).sum(0)
    return _Sums(
        torch.stack([len(exact) - ones, ones], dim=1),
        torch.stack([total - total_one, total_one]),
        exact.square().sum(0),
        exact.gt(0).sum(0, dtype=exact.dtype),
    )


def _compute(sums: _Sums) -> LatentSelectivityValues:
    zeros, ones = sums.samples.unsqueeze(2).unbind(1)  # (M, 1) each
    num_samples = (zeros + ones)[0]
    mean_zero, mean_one = sums.feature_sum[0] / zeros, sums.feature_sum[1] / ones
    gap = mean_one - mean_zero
    total = sums.feature_sum.sum(0)
    variance = variance_from_sums(num_samples, total, sums.square_sum)
    # cov(f, z) = p (1 - p) gap and var(z) = p (1 - p)
    latent_std = (zeros * ones).sqrt() / num_samples
    correlation = gap * latent_std / variance.sqrt().where(variance > 0, torch.inf)
    nc, best = correlation.abs().max(1)
    return LatentSelectivityValues(
        gap / 2, correlation.clamp(-1, 1), nc.clamp(max=1), best, sums.positive_count > 0
    )
