"""A pass through any network that changes nothing of it, and what its layers saw.

| you want | call |
|---|---|
| an output of a network as it is | `frozen_call` |
| features of named layers, a vector for each sample | `layer_features` |
| what each weight saw, and what comes back to it | `trace_network` |
| which layers can be looked at, and why others cannot | `rehearse` |
"""

from lightning_ssl_theory.tracing.frozen_call import frozen_call, network_state
from lightning_ssl_theory.tracing.inputs import Inputs
from lightning_ssl_theory.tracing.layer_features import layer_features
from lightning_ssl_theory.tracing.layer_names import LayerChoice, find_module, resolve_layers
from lightning_ssl_theory.tracing.layer_trace import LayerTrace
from lightning_ssl_theory.tracing.network_output import Output, network_output
from lightning_ssl_theory.tracing.network_trace import NetworkTrace, trace_network
from lightning_ssl_theory.tracing.rehearsal import Rehearsal, rehearse

__all__ = [
    "Inputs",
    "LayerChoice",
    "LayerTrace",
    "NetworkTrace",
    "Output",
    "Rehearsal",
    "find_module",
    "frozen_call",
    "layer_features",
    "network_output",
    "network_state",
    "rehearse",
    "resolve_layers",
    "trace_network",
]
