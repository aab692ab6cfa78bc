"""Scores of linear probes over the number of labels."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_instance, check_integer, check_positive, check_sequence
from lightning_ssl_theory.probes.accuracy import top_k_correct
from lightning_ssl_theory.probes.logistic import logistic_classifier
from lightning_ssl_theory.probes.ridge_regression import r2_score, ridge_regression


class LabelledFeatures(NamedTuple):
    """Features of N samples, and what probes should read from them."""

    features: Tensor
    """(N, D)."""
    goals: Tensor
    """(N, T), numbers for regression."""
    labels: Tensor
    """(N,), classes, -1 for a sample without label."""


def label_curve(
    fitted: LabelledFeatures, held_out: LabelledFeatures, counts: Sequence[int], *, l2: float = 1e-2
) -> list[dict[str, float]]:
    """Held-out scores of a ridge regression and a logistic classifier, fitted to the first samples.

    Args:
        fitted: What is fitted, N samples.
        held_out: What is scored.
        counts: Numbers of samples that are fitted, each at most N.
        l2: Penalty of the classifier.

    Returns:
        For each count a row: `labels`, the count; `r2`, mean over the T goals; `accuracy`, over held-out samples that
        have a label.

    Raises:
        InputError: If a count is less than 1 or more than N.

    Example:
        >>> goals = torch.linspace(-1, 1, 40).unsqueeze(1)
        >>> data = LabelledFeatures(goals, goals, (goals[:, 0] > 0).long())
        >>> (row,) = label_curve(data, data, [40])
        >>> row["labels"], round(row["r2"], 2), row["accuracy"]
        (40, 1.0, 1.0)
    """
    check_instance(fitted, "fitted", LabelledFeatures)
    check_instance(held_out, "held_out", LabelledFeatures)
    check_sequence(counts, "counts")
    for count in counts:
        check_integer(
            count, "counts", at_most=len(fitted.features), advice="pass as many samples as the largest"
        )
    check_positive(l2, "l2")
    num_classes = int(fitted.labels.max()) + 1
    is_scored, rows = held_out.labels >= 0, []
    for count in counts:
        features, goals, labels = (part[:count] for part in fitted)
        predictions = ridge_regression(features, goals).predictions(held_out.features)
        has_label = labels >= 0
        classifier = logistic_classifier(features[has_label], labels[has_label], num_classes, l2=l2)
        correct = top_k_correct(
            classifier.scores(held_out.features[is_scored]), held_out.labels[is_scored], 1
        ).to(torch.float64)
        score = r2_score(predictions, held_out.goals).mean()
        rows.append({"labels": count, "r2": float(score), "accuracy": float(correct.mean())})
    return rows
