"""Linear probes: ridge in closed form from summed statistics, logistic regression, and their scores."""

from lightning_ssl_theory.probes.accuracy import top_k_correct
from lightning_ssl_theory.probes.labels_per_class import labels_per_class
from lightning_ssl_theory.probes.linear_classifier import LinearClassifier
from lightning_ssl_theory.probes.logistic import logistic_classifier
from lightning_ssl_theory.probes.ridge import RidgeStatistics, ridge_classifier, ridge_statistics

__all__ = [
    "LinearClassifier",
    "RidgeStatistics",
    "labels_per_class",
    "logistic_classifier",
    "ridge_classifier",
    "ridge_statistics",
    "top_k_correct",
]
