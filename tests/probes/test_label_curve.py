"""Scores over the number of labels are those of probes fitted one by one."""

import pytest
import torch

from lightning_ssl_theory.probes import LabelledFeatures, label_curve, logistic_classifier, ridge_regression


def samples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 6, generator=generator)
    goals = features[:, :3].tanh() + 0.1 * torch.randn(count, 3, generator=generator)
    labels = (goals[:, 0] > 0).long()
    labels[::7] = -1
    return LabelledFeatures(features, goals, labels)


def test_rows_are_those_of_single_probes():
    fitted, held_out = samples(80, 0), samples(50, 1)
    rows = label_curve(fitted, held_out, [20, 80])
    assert [row["labels"] for row in rows] == [20, 80]
    for row in rows:
        part = slice(0, row["labels"])
        found = ridge_regression(fitted.features[part], fitted.goals[part]).predictions(held_out.features)
        residual = (found - held_out.goals).square().sum(0)
        total = (held_out.goals - held_out.goals.mean(0)).square().sum(0)
        assert row["r2"] == pytest.approx(float((1 - residual / total).mean()), rel=1e-5)
        keep = fitted.labels[part] >= 0
        classifier = logistic_classifier(fitted.features[part][keep], fitted.labels[part][keep], 2, l2=1e-2)
        scores = classifier.scores(held_out.features)
        right = [int(s.argmax()) == int(y) for s, y in zip(scores, held_out.labels, strict=True) if y >= 0]
        assert row["accuracy"] == pytest.approx(sum(right) / len(right))
    assert rows[0]["r2"] < rows[1]["r2"]


@pytest.mark.parametrize("counts", [[0], [20, 81]])
def test_counts_beyond_the_samples(counts):
    with pytest.raises(
        ValueError, match=r"Expected `counts` of at (least 1|most 80), got .*; pass as many samples"
    ):
        label_curve(samples(80, 0), samples(5, 1), counts)
