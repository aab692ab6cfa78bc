r"""How rarely each neuron fires over samples: firing rate and Hoyer sparsity.

.. math:: \text{Hoyer} = \frac{\sqrt N - \|f_j\|_1 / \|f_j\|_2}{\sqrt N - 1},

with the norms over the N samples: 0 when all activations are of one size, 1 when a single one is nonzero.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_finite, check_integer, check_shape
from lightning_ssl_theory.metrics.sum_metric import SumMetric
from lightning_ssl_theory.moments import check_any_sample, to_float64


class ActivationSparsityValues(NamedTuple):
    """Sparsity of D neurons over N samples."""

    firing_rate: Tensor
    """Mean over neurons of the firing rate."""
    hoyer: Tensor
    """Mean of the Hoyer sparsity over the neurons that fire; NaN when none does."""
    dead_share: Tensor
    """Share of neurons that never fire."""
    firing_rates: Tensor
    """Share of samples with a nonzero activation (D,)."""
    hoyer_values: Tensor
    """Hoyer sparsity over samples (D,), in [0, 1]; NaN for dead neurons."""


class _Sums(NamedTuple):
    num_samples: Tensor  # ()
    nonzero_sum: Tensor  # (D,)
    absolute_sum: Tensor  # (D,)
    square_sum: Tensor  # (D,)


def activation_sparsity(features: Tensor) -> ActivationSparsityValues:
    r"""Firing rate and Hoyer sparsity of each neuron over samples.

    .. math:: \frac1N \sum_n 1[f_{nj} \ne 0], \quad
        \frac{\sqrt N - \|f_j\|_1 / \|f_j\|_2}{\sqrt N - 1}

    Args:
        features: Activations, shape (N, D), N >= 2. Nonzero is exact: after ReLU it means active, after
            GELU or without a nonlinearity it says little.

    Returns:
        ActivationSparsityValues in float64. O(N D) time and memory.

    References:
        P. Hoyer, "Non-negative Matrix Factorization with Sparseness Constraints", 2004.

    Example:
        >>> values = activation_sparsity(torch.tensor([[1.0, 2.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
        >>> values.firing_rates.tolist(), values.hoyer_values.tolist()
        ([1.0, 0.25], [0.0, 1.0])
    """
    check_shape(features, "features", "N+ D+")
    return _compute(_update(features))


class ActivationSparsity(SumMetric):
    """Firing rate and Hoyer sparsity of D neurons over all batches and ranks; see `activation_sparsity`.

    State: 3 D + 1 float64 numbers.

    Args:
        num_features: Number of neurons D.
        **kwargs: Passed on to `torchmetrics.Metric`.

    Example:
        >>> metric = ActivationSparsity(num_features=2)
        >>> metric.update(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        >>> metric.update(torch.tensor([[0.0, 0.0], [0.0, 0.0]]))
        >>> float(metric.compute().firing_rate), float(metric.compute().dead_share)
        (0.25, 0.5)
    """

    num_samples: Tensor
    nonzero_sum: Tensor
    absolute_sum: Tensor
    square_sum: Tensor

    def __init__(self, num_features: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_integer(num_features, "num_features")
        self.num_features = num_features
        width = (num_features,)
        self._declare_sums(num_samples=(), nonzero_sum=width, absolute_sum=width, square_sum=width)

    def update(self, features: Tensor) -> None:
        """Add a batch.

        Args:
            features: Shape (N, D).
        """
        check_shape(features, "features", f"N {self.num_features}")
        self._add_sums(_update(features)._asdict())

    def compute(self) -> ActivationSparsityValues:
        """The values over everything that was added.

        Returns:
            ActivationSparsityValues in float64.
        """
        return _compute(_Sums(self.num_samples, self.nonzero_sum, self.absolute_sum, self.square_sum))


def _update(features: Tensor) -> _Sums:
    check_shape(features, "features", "N D")
    check_finite(features, "features")
    exact = to_float64(features)
    return _Sums(
        num_samples=exact.new_tensor(len(exact)),
        nonzero_sum=exact.count_nonzero(0).to(exact.dtype),
        absolute_sum=exact.abs().sum(0),
        square_sum=exact.square().sum(0),
    )


def _compute(sums: _Sums) -> ActivationSparsityValues:
    check_any_sample(sums.num_samples)
    if sums.num_samples < 2:
        raise InputError("Expected at least 2 samples, got 1; sparsity over samples needs more of them.")
    root = sums.num_samples.sqrt()
    rates = sums.nonzero_sum / sums.num_samples
    # 0/0 = NaN marks dead neurons; the clamp takes off rounding, and keeps NaN.
    hoyer = ((root - sums.absolute_sum / sums.square_sum.sqrt()) / (root - 1)).clamp(0, 1)
    return ActivationSparsityValues(
        firing_rate=rates.mean(),
        hoyer=torch.nanmean(hoyer),
        dead_share=(rates == 0).to(rates.dtype).mean(),
        firing_rates=rates,
        hoyer_values=hoyer,
    )
