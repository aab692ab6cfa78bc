"""From sums over samples to the scalars of a covariance operator, each estimate with its standard error."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.operators.covariance_sums import CovarianceSums
from lightning_ssl_theory.operators.frobenius_estimate import frobenius_estimate
from lightning_ssl_theory.operators.pair_coefficients import Estimator
from lightning_ssl_theory.operators.standard_errors import mean_error, ratio_error
from lightning_ssl_theory.tracing.network_trace import check_finite_gradients

TINY = torch.finfo(torch.float64).tiny


class CovarianceScalars(NamedTuple):
    """Scalars of one layer's operator.

    Standard errors are over random probes (and weight vectors), widened by Student's t for few of them, so that twice
    the error on both sides covers 95 % of the draws; 0 where nothing is random, NaN for a single probe.

    Attributes:
        trace: tr OP, squared gradient units.
        trace_stderr: Its standard error.
        signal_ratio: tr OP / (tr OP + tr OP^aug), in [0, 1]; the plug-in reads 1/A where the views of a sample are
            as far apart as those of different samples, the unbiased estimate 0.
        signal_ratio_stderr: Its standard error.
        growth_rate: w^T OP w / ||w||^2; under L_simp d ln||w|| / dt is twice it (bias-free networks).
        growth_rate_stderr: Its standard error; 0 where K^T w = f, as in bias-free networks.
        frobenius_norm: ||OP||_F, from pairs of different probes and different random weight vectors.
        frobenius_norm_stderr: Its standard error.
        residual: ||gradient - prediction|| / ||gradient|| of the loss; `None` without a loss, 0 where both vanish.
        cosine: Cosine between the two; `None` without a loss, 0 where one vanishes.
    """

    trace: Tensor
    trace_stderr: Tensor
    signal_ratio: Tensor
    signal_ratio_stderr: Tensor
    growth_rate: Tensor
    growth_rate_stderr: Tensor
    frobenius_norm: Tensor
    frobenius_norm_stderr: Tensor
    residual: Tensor | None
    cosine: Tensor | None


class Population(NamedTuple):
    """N samples with A views each, and which estimator speaks of them."""

    num_samples: int
    num_views: int
    estimator: Estimator

    def variances(self, of_means: Tensor, of_views: Tensor, of_total: Tensor) -> tuple[Tensor, Tensor]:
        """Variance between samples, and mean variance within them, from products summed as in `Moments`.

        Args:
            of_means: Products of the samples' means, summed over samples.
            of_views: Products of the views, averaged within and summed over samples.
            of_total: Product of the sum of all samples' means with itself.

        Returns:
            Two tensors of the same shape.
        """
        between = of_means / self.num_samples - of_total / self.num_samples**2
        within = (of_views - of_means) / self.num_samples
        if self.estimator == "unbiased":
            within = within * self.num_views / (self.num_views - 1)
            between = between * self.num_samples / (self.num_samples - 1) - within / self.num_views
        return between, within


class ProbeEstimates(NamedTuple):
    """What each of m probes says of one layer.

    Attributes:
        signal: tr OP, (m,).
        augmentation: tr OP^aug, (m,).
        sketches: phi_k^T OP phi_l, (m, r, r).
        remainder: Variance between samples of u . (K^T w - f), (m,).
    """

    signal: Tensor
    augmentation: Tensor
    sketches: Tensor
    remainder: Tensor

    def joined(self, other: "ProbeEstimates") -> "ProbeEstimates":
        """Those of these and of further probes."""
        return ProbeEstimates(*(torch.cat(pair) for pair in zip(self, other, strict=True)))


def probe_estimates(sums: CovarianceSums, population: Population) -> ProbeEstimates:
    """What each probe says, from the sums over all samples."""
    gradients, sketches, remainders = sums
    signal, augmentation = population.variances(
        gradients.of_means, gradients.of_views, gradients.total.double().square().sum(1)
    )
    outer = sketches.total[:, :, None] * sketches.total[:, None]
    return ProbeEstimates(
        signal,
        augmentation,
        population.variances(sketches.of_means, sketches.of_views, outer)[0],
        population.variances(remainders.of_means, remainders.of_views, remainders.total.square())[0],
    )


def layer_scalars(
    name: str,
    estimates: ProbeEstimates,
    *,
    weight: Tensor,
    gradients: Sequence[Tensor],
    output_variance: Tensor,
    is_exact: bool,
) -> CovarianceScalars:
    """The scalars of one layer.

    Args:
        name: The layer's path, for the error.
        estimates: What all probes say of it.
        weight: The layer's weight.
        gradients: Of its shape: Cov(K, f), and, with a loss, the true gradient and the predicted one.
        output_variance: Trace of the covariance of the output f.
        is_exact: Whether the probes are all unit vectors, whose sum is the operator, or random, with it as mean.

    Returns:
        The scalars, float64.

    Raises:
        ValueError: If a per-sample gradient is not finite.
    """
    check_finite_gradients(name, *estimates, *gradients)
    signal, augmentation, sketches, remainder = estimates
    scale = len(signal) if is_exact else 1
    trace, noise = signal.mean() * scale, augmentation.mean() * scale
    squared_norm = weight.double().square().sum().clamp(min=TINY)
    # w^T OP w = 2 w^T Cov(K, f) - tr Cov(f) + tr Cov(K^T w - f), whose last part alone needs probes
    known = 2 * (weight.double() * gradients[0].double()).sum() - output_variance
    # a quadratic form of low rank: skewed, so that an interval for 99 % of normal draws covers about 95 %
    remainder_error = trace.new_zeros(()) if is_exact else mean_error(remainder, coverage=0.99)
    norm, norm_error = frobenius_estimate(sketches, is_exact=is_exact)
    residual, cosine = _prediction_quality(*gradients[1:]) if len(gradients) > 1 else (None, None)
    return CovarianceScalars(
        trace=trace,
        trace_stderr=mean_error(signal) if not is_exact else trace.new_zeros(()),
        signal_ratio=(trace / (trace + noise).clamp(min=TINY)).clamp(0, 1),
        signal_ratio_stderr=ratio_error(signal, signal + augmentation)
        if not is_exact
        else trace.new_zeros(()),
        growth_rate=(known + scale * remainder.mean()) / squared_norm,
        growth_rate_stderr=remainder_error / squared_norm,
        frobenius_norm=norm,
        frobenius_norm_stderr=norm_error,
        residual=residual,
        cosine=cosine,
    )


def _prediction_quality(gradient: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    gradient, prediction = gradient.double(), prediction.double()
    norm, predicted_norm = (x.norm().clamp(min=TINY) for x in (gradient, prediction))
    residual = (gradient - prediction).norm() / norm
    return residual, (gradient / norm * (prediction / predicted_norm)).sum()
