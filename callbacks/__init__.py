"""Lightning callbacks that show, while a network trains, what theory says of it."""

from .bias_schedule import BiasSchedule
from .collapse_monitor import CollapseMonitor
from .covariance_operators import CovarianceOperators
from .diagnostic import Diagnostic
from .feature_norm_monitor import FeatureNormMonitor
from .feature_probe import FeatureProbe
from .generalization_monitor import GeneralizationMonitor
from .knn_probe import KNNProbe
from .latent_tree_monitor import LatentTreeMonitor
from .latent_tree_rows import latent_tree_rows
from .linear_probe import LinearProbe
from .neuron_selectivity import NeuronSelectivity
from .orthogonality_monitor import OrthogonalityMonitor

__all__ = [
    "BiasSchedule",
    "CollapseMonitor",
    "CovarianceOperators",
    "Diagnostic",
    "FeatureNormMonitor",
    "FeatureProbe",
    "GeneralizationMonitor",
    "KNNProbe",
    "LatentTreeMonitor",
    "LinearProbe",
    "NeuronSelectivity",
    "OrthogonalityMonitor",
    "latent_tree_rows",
]
