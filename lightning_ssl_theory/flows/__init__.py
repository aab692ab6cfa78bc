"""Differential equations that training of two linear layers with orthonormal weights follows, without a network."""

from importlib import import_module
from typing import Any

from lightning_ssl_theory.flows.closed_form import closed_form_flow, leading_time, limit_point
from lightning_ssl_theory.flows.fixed_points import fixed_point_rates, fixed_points, stable_point
from lightning_ssl_theory.flows.oja import canonical_closed_form, oja_flow
from lightning_ssl_theory.flows.predictions import flow_loss, flow_outputs
from lightning_ssl_theory.flows.reduced_flows import (
    canonical_flow,
    canonical_velocity,
    discrete_flow,
    grassmann_flow,
    grassmann_velocity,
    stiefel_flow,
    stiefel_velocity,
)
from lightning_ssl_theory.flows.trace_matrix import Eigenbasis, eigenbasis, trace_matrix

__all__ = [
    "Eigenbasis",
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
    "leading_time",
    "limit_point",
    "oja_flow",
    "stable_point",
    "stiefel_flow",
    "stiefel_velocity",
    "trace_matrix",
]

_MOVED = {"GrowthRates", "growth_rates", "largest_dense_growth", "minibatch_floor", "stage_one_norms"}


def __getattr__(name: str) -> Any:
    """Find the names that stood here before `sparse_coding` was a room, on first use: flows do not import it."""
    if name in _MOVED:
        return getattr(import_module("lightning_ssl_theory.sparse_coding"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
