r"""From sums over samples to the scalars of a covariance operator, each estimate with its error.

The Frobenius norm is from pairs of different probes c != c' and of different weight vectors phi_k, phi_l, k != l, all
with E[v v^T] = I, for which

.. math:: \|OP\|_F^2 = E\big[(\phi_k^T OP_c\, \phi_l)(\phi_k^T OP_{c'}\, \phi_l)\big],

so that small matrices Phi^T OP_c Phi suffice, and nothing is squared that is noisy in itself.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.operators.covariance_sums import CovarianceSums
from lightning_ssl_theory.operators.pair_coefficients import Estimator
from lightning_ssl_theory.operators.standard_errors import jackknife_error, mean_error, ratio_error

TINY = torch.finfo(torch.float64).tiny


class CovarianceScalars(NamedTuple):
    """Scalars of one layer's operator.

    Each `*_error95` is the half-width of an interval that covers 95 % of the draws of random probes (and weight
    vectors), also for few of them; 0 where nothing is random, NaN for a single probe.

    Attributes:
        trace: tr OP, squared gradient units.
        trace_error95: Its error.
        signal_ratio: tr OP / (tr OP + tr OP^aug), in [0, 1]; the plug-in reads 1/A where the views of a sample are
            as far apart as those of different samples, the unbiased estimate 0.
        signal_ratio_error95: Its error.
        growth_rate: w^T OP w / ||w||^2; under L_simp d ln||w|| / dt is twice it (bias-free networks). The plug-in is
            never negative, and estimates of it are raised to 0; the unbiased estimate may be negative.
        growth_rate_error95: Its error; 0 where K^T w = f, as in bias-free networks, and in the exact ones.
        frobenius_norm: ||OP||_F, from pairs of different probes and different random weight vectors.
        frobenius_norm_error95: Its error.
        residual: ||gradient - prediction|| / ||gradient|| of the loss; `None` without a loss, 0 where both vanish.
        cosine: Cosine between the two; `None` without a loss, 0 where one vanishes.
    """

    trace: Tensor
    trace_error95: Tensor
    signal_ratio: Tensor
    signal_ratio_error95: Tensor
    growth_rate: Tensor
    growth_rate_error95: Tensor
    frobenius_norm: Tensor
    frobenius_norm_error95: Tensor
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
    gradients, sketches, remainders, _ = sums
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


def gradient_spread(sums: CovarianceSums, population: Population) -> Tensor:
    """Share of the second moment of K u over samples and views that is variance, mean over probes; 1 where K is 0."""
    second = sums.gradients.of_views.sum() / population.num_samples
    mean = sums.gradients.total.double().square().sum() / population.num_samples**2
    return (1 - mean / second.clamp(min=TINY)).where(second > 0, 1)


class WeightEstimates(NamedTuple):
    """What the weight of a layer and gradients with respect to it say, without any probe.

    Attributes:
        squared_norm: ||w||^2.
        along: w^T Cov(K, f), which is w^T OP w where K^T w = f.
        growth: w^T OP w, where it is known.
        residual: Of theory's prediction of a loss's gradient; `None` without a loss.
        cosine: Of the same.
    """

    squared_norm: Tensor
    along: Tensor
    growth: Tensor | None
    residual: Tensor | None
    cosine: Tensor | None

    def known(self) -> list[Tensor]:
        """Those that there are."""
        return [value for value in self if value is not None]


def weight_estimates(weight: Tensor, pulled: Tensor, growth: Tensor | None) -> WeightEstimates:
    """From Cov(K, f) and, with a loss, its true gradient and the predicted one, (1 or 3, *weight); and w^T OP w."""
    weight = weight.double()
    squared_norm, along = weight.square().sum(), (weight * pulled[0].double()).sum()
    if len(pulled) == 1:
        return WeightEstimates(squared_norm, along, growth, None, None)
    gradient, prediction = pulled[1].double(), pulled[2].double()
    norm, predicted_norm = (x.norm().clamp(min=TINY) for x in (gradient, prediction))
    cosine = (gradient / norm * (prediction / predicted_norm)).sum()
    return WeightEstimates(squared_norm, along, growth, (gradient - prediction).norm() / norm, cosine)


def layer_scalars(
    estimates: ProbeEstimates,
    of_weight: WeightEstimates,
    *,
    output_variance: Tensor,
    is_exact: bool,
    is_positive: bool,
) -> CovarianceScalars:
    """The scalars of one layer.

    Args:
        estimates: What all probes say of it.
        of_weight: What its weight says.
        output_variance: Trace of the covariance of the output f.
        is_exact: Whether the probes are all unit vectors, whose sum is the operator, or random, with it as mean.
        is_positive: Whether the operator has no negative eigenvalue, as the plug-in has none.

    Returns:
        The scalars, float64.
    """
    signal, augmentation, sketches, remainder = estimates
    scale, zero = len(signal) if is_exact else 1, signal.new_zeros(())
    trace, noise = signal.mean() * scale, augmentation.mean() * scale
    if of_weight.growth is None:
        # w^T OP w = 2 w^T Cov(K, f) - tr Cov(f) + tr Cov(K^T w - f), whose last part alone needs probes;
        # a quadratic form of low rank: skewed, so that an interval for 99 % of normal draws covers about 95 %
        growth = 2 * of_weight.along - output_variance + scale * remainder.mean()
        growth_error = zero if is_exact else mean_error(remainder, coverage=0.99)
    else:
        growth, growth_error = of_weight.growth, zero
    norm, norm_error = frobenius_estimate(sketches, is_exact=is_exact)
    squared_norm = of_weight.squared_norm.clamp(min=TINY)
    return CovarianceScalars(
        trace=trace,
        trace_error95=zero if is_exact else mean_error(signal),
        signal_ratio=(trace / (trace + noise).clamp(min=TINY)).clamp(0, 1),
        signal_ratio_error95=zero if is_exact else ratio_error(signal, signal + augmentation),
        growth_rate=(growth.clamp(min=0) if is_positive else growth) / squared_norm,
        growth_rate_error95=growth_error / squared_norm,
        frobenius_norm=norm,
        frobenius_norm_error95=norm_error,
        residual=of_weight.residual,
        cosine=of_weight.cosine,
    )


def frobenius_estimate(sketches: Tensor, *, is_exact: bool) -> tuple[Tensor, Tensor]:
    """The Frobenius norm and the half-width of its error.

    Args:
        sketches: Phi^T OP_c Phi of every probe, (m, r, r), symmetric.
        is_exact: Whether the operator is the sum over probes (all unit vectors), or their mean (random ones).

    Returns:
        The norm, whose square is unbiased where it is not negative, and its error over probes and weight vectors
        (see `standard_errors`). Both are NaN where there are no pairs, the error also for two probes.

    Example:
        >>> operator = torch.eye(3).repeat(3, 1, 1) + 1  # phi^T OP phi for three probes that agree
        >>> [float(value) for value in frobenius_estimate(operator, is_exact=False)]
        [1.0, 0.0]
    """
    if is_exact:
        products = sketches.sum(0).square()
        errors = [_sketch_error(products)]
    else:
        num_probes = len(sketches)
        if num_probes < 2:
            nothing = sketches.new_full((), math.nan)
            return nothing, nothing
        total, squares = sketches.sum(0), sketches.square().sum(0)
        products = (total.square() - squares) / (num_probes * (num_probes - 1))
        rest = (total - sketches).square() - (squares - sketches.square())
        left_out = _off_diagonal_mean(rest / ((num_probes - 1) * (num_probes - 2) or math.nan))
        errors = [_sketch_error(products), jackknife_error(left_out)]
    square = _off_diagonal_mean(products)
    norm, error = square.clamp(min=0).sqrt(), torch.stack(errors).norm()
    return norm, error / torch.maximum(2 * norm, (error / 2).sqrt()).clamp(min=TINY)


def _off_diagonal_mean(values: Tensor) -> Tensor:
    size = values.shape[-1]
    diagonal = values.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (values.sum((-2, -1)) - diagonal) / (size * (size - 1))


def _sketch_error(products: Tensor) -> Tensor:
    size = len(products)
    rows = products.sum(1) - products.diagonal()
    left_out = (rows.sum() - 2 * rows) / ((size - 1) * (size - 2))
    return jackknife_error(left_out)
