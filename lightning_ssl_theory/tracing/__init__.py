"""A pass through any network that changes nothing of it, and what its layers saw."""

from lightning_ssl_theory.tracing.frozen_call import frozen_call, layer_features, network_state
from lightning_ssl_theory.tracing.layer_names import LayerChoice, find_module, resolve_layers
from lightning_ssl_theory.tracing.network_trace import LayerTrace, NetworkTrace, trace_network

__all__ = [
    "LayerChoice",
    "LayerTrace",
    "NetworkTrace",
    "find_module",
    "frozen_call",
    "layer_features",
    "network_state",
    "resolve_layers",
    "trace_network",
]
