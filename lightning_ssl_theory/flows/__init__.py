"""The exact learning dynamics of orthogonality-constrained linear representations: ODEs without a network."""

from lightning_ssl_theory.flows.canonical import canonical_closed_form, canonical_flow, canonical_velocity
from lightning_ssl_theory.flows.closed_form import closed_form_flow, limit_point
from lightning_ssl_theory.flows.discrete import discrete_flow
from lightning_ssl_theory.flows.fixed_points import fixed_point_rates, fixed_points, stable_point
from lightning_ssl_theory.flows.grassmann import grassmann_flow, grassmann_velocity
from lightning_ssl_theory.flows.leading_time import leading_time
from lightning_ssl_theory.flows.oja import oja_flow
from lightning_ssl_theory.flows.predictions import flow_loss, flow_outputs
from lightning_ssl_theory.flows.sparse_coding_norms import (
    GrowthRates,
    growth_rates,
    largest_dense_growth,
    minibatch_floor,
    stage_one_norms,
)
from lightning_ssl_theory.flows.stiefel import stiefel_flow, stiefel_velocity
from lightning_ssl_theory.flows.trace_matrix import Eigenbasis, eigenbasis, trace_matrix

__all__ = [
    "Eigenbasis",
    "GrowthRates",
    "canonical_closed_form",
    "canonical_flow",
    "canonical_velocity",
    "closed_form_flow",
    "discrete_flow",
    "eigenbasis",
    "fixed_point_rates",
    "fixed_points",
    "flow_loss",
    "flow_outputs",
    "grassmann_flow",
    "grassmann_velocity",
    "growth_rates",
    "largest_dense_growth",
    "leading_time",
    "limit_point",
    "minibatch_floor",
    "oja_flow",
    "stable_point",
    "stage_one_norms",
    "stiefel_flow",
    "stiefel_velocity",
    "trace_matrix",
]
