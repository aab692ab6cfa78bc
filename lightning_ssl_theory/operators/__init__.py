"""Covariance operators of the layers of any network, and what theory says of its gradients.

For n_L outputs, m probes and k eigenvalues; every call needs a forward pass, and then backward passes:

| you want | call | cost |
|---|---|---|
| scalars of every layer, theory against a gradient | `covariance_scalars` | m + 1, 2 more with a loss |
| the same without any error from probes | `covariance_scalars(num_probes=None)` | n_L + 1 |
| growth rates without error beside estimates | `covariance_scalars(exact_growth=...)` | 2 more a layer |
| leading eigenpairs of named layers | `covariance_spectra` | n_L, or 3 for each of 4 k + 20 products |
| the operator itself: products, norm, matrix | `covariance_operators` | n_L, all factors kept |
| operators of the latents of a tree | `connection_sums`, `latent_operator_norms` | n_L |
"""

from lightning_ssl_theory.moments import effective_rank
from lightning_ssl_theory.operators.covariance_operator import Connections, CovarianceOperator
from lightning_ssl_theory.operators.covariance_operators import covariance_operators, half_squared_distances
from lightning_ssl_theory.operators.covariance_scalars import covariance_scalars
from lightning_ssl_theory.operators.covariance_spectra import (
    SpectrumCost,
    covariance_spectra,
    spectrum_cost,
)
from lightning_ssl_theory.operators.covered_layers import CoveredLayers
from lightning_ssl_theory.operators.latent_operator import (
    ConnectionSums,
    LatentOperatorNorms,
    connection_sums,
    latent_operator_norms,
)
from lightning_ssl_theory.operators.output_cotangents import PairwiseObjective
from lightning_ssl_theory.operators.pair_coefficients import laplacian, pair_coefficients
from lightning_ssl_theory.operators.scalar_estimates import CovarianceScalars
from lightning_ssl_theory.operators.spectrum import Spectrum
from lightning_ssl_theory.tracing import (
    LayerChoice,
    LayerTrace,
    NetworkTrace,
    find_module,
    resolve_layers,
    trace_network,
)
from lightning_ssl_theory.tracing.weight_directions import rademacher_probes

__all__ = [
    "ConnectionSums",
    "Connections",
    "CovarianceOperator",
    "CovarianceScalars",
    "CoveredLayers",
    "LatentOperatorNorms",
    "LayerChoice",
    "LayerTrace",
    "NetworkTrace",
    "PairwiseObjective",
    "Spectrum",
    "SpectrumCost",
    "connection_sums",
    "covariance_operators",
    "covariance_scalars",
    "covariance_spectra",
    "effective_rank",
    "find_module",
    "half_squared_distances",
    "laplacian",
    "latent_operator_norms",
    "pair_coefficients",
    "rademacher_probes",
    "resolve_layers",
    "spectrum_cost",
    "trace_network",
]
