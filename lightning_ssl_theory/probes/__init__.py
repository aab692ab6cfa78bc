"""Probes of features: ridge in closed form, logistic, nearest neighbours, regression onto numbers, and their scores."""

from lightning_ssl_theory.probes.accuracy import top_k_correct
from lightning_ssl_theory.probes.knn import Neighbours, knn_votes, nearest_neighbours
from lightning_ssl_theory.probes.label_curve import LabelledFeatures, label_curve
from lightning_ssl_theory.probes.labels_per_class import labels_per_class
from lightning_ssl_theory.probes.linear_classifier import LinearClassifier
from lightning_ssl_theory.probes.logistic import logistic_classifier
from lightning_ssl_theory.probes.ridge import (
    RidgeStatistics,
    ridge_classifier,
    ridge_classifier_of_rows,
    ridge_statistics,
)
from lightning_ssl_theory.probes.ridge_regression import LinearRegressor, r2_score, ridge_regression

__all__ = [
    "LabelledFeatures",
    "LinearClassifier",
    "LinearRegressor",
    "Neighbours",
    "RidgeStatistics",
    "knn_votes",
    "label_curve",
    "labels_per_class",
    "logistic_classifier",
    "nearest_neighbours",
    "r2_score",
    "ridge_classifier",
    "ridge_classifier_of_rows",
    "ridge_regression",
    "ridge_statistics",
    "top_k_correct",
]
