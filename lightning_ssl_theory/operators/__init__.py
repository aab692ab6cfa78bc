"""Covariance operators of the layers of any network, and what theory says of its gradients."""

from lightning_ssl_theory.operators.connections import Connections
from lightning_ssl_theory.operators.covariance_operator import CovarianceOperator
from lightning_ssl_theory.operators.covariance_operators import covariance_operators, half_squared_distances
from lightning_ssl_theory.operators.covariance_scalars import CovarianceScalars, covariance_scalars
from lightning_ssl_theory.operators.effective_rank import effective_rank
from lightning_ssl_theory.operators.gradient_prediction import PredictionQuality, gradient_prediction
from lightning_ssl_theory.operators.layer_names import find_module, resolve_layers
from lightning_ssl_theory.operators.layer_trace import LayerTrace, NetworkTrace, trace_network
from lightning_ssl_theory.operators.pair_coefficients import laplacian, pair_coefficients
from lightning_ssl_theory.operators.probes import rademacher_probes
from lightning_ssl_theory.operators.signal_spectrum import signal_spectrum
from lightning_ssl_theory.operators.weight_maps import patches, sample_gradients, view_gram, weight_map

__all__ = [
    "Connections",
    "CovarianceOperator",
    "CovarianceScalars",
    "LayerTrace",
    "NetworkTrace",
    "PredictionQuality",
    "covariance_operators",
    "covariance_scalars",
    "effective_rank",
    "find_module",
    "gradient_prediction",
    "half_squared_distances",
    "laplacian",
    "pair_coefficients",
    "patches",
    "rademacher_probes",
    "resolve_layers",
    "sample_gradients",
    "signal_spectrum",
    "trace_network",
    "view_gram",
    "weight_map",
]
