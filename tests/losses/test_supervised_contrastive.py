"""Supervised contrast against its loop, InfoNCE and pytorch-metric-learning, its edges, and several ranks."""

from typing import Any

import pytest
import torch
from helpers.ddp import run_ranks
from torch import Tensor
from torch.autograd import grad, gradcheck
from torch.nn.parallel import DistributedDataParallel

from lightning_ssl_theory.losses import InfoNCELoss, SupervisedContrastiveLoss
from losses.test_pairwise import INPUTS, SHARDS, linear, views

close = torch.testing.assert_close
LABELS = torch.tensor([4, -1, 0, 4, 0, 9, -1, 4])


def loop(z1: Tensor, z2: Tensor, labels: Tensor, temperature: float) -> Tensor:
    outputs = [row / sum(v * v for v in row) ** 0.5 for row in (*z1, *z2)]
    samples, classes = 2 * list(range(len(z1))), 2 * labels.tolist()
    losses = []
    for i, anchor in enumerate(outputs):
        others = [j for j in range(len(outputs)) if j != i]
        logits = {j: sum(anchor * outputs[j]) / temperature for j in others}
        mates = [
            j for j in others if samples[j] == samples[i] or (classes[j] == classes[i] and classes[i] >= 0)
        ]
        normalizer = sum(torch.exp(logits[j]) for j in others)
        losses.append(-sum(torch.log(torch.exp(logits[j]) / normalizer) for j in mates) / len(mates))
    return sum(losses) / len(losses)


def test_oracle_by_hand() -> None:
    z = torch.eye(2)  # of one class: log(e + 2) - (1 + 0 + 0) / 3
    expected = torch.log(torch.tensor(2 + torch.e)) - 1 / 3
    close(loop(z, z, torch.tensor([0, 0]), 1.0), expected)


@pytest.mark.parametrize("labels", [LABELS, torch.zeros(8, dtype=torch.int32), torch.arange(8)])
def test_value_and_gradient_are_those_of_the_loop(labels: Tensor) -> None:
    z = views(8)
    value, expected = SupervisedContrastiveLoss(0.3)(*z, labels), loop(*z, labels, 0.3)
    close(value, expected, rtol=1e-12, atol=1e-12)
    close(grad(value, z), grad(expected, z), rtol=1e-10, atol=1e-12)


def test_parts_sum_to_the_loss_and_alignment_vanishes_for_collapsed_classes() -> None:
    z, loss = views(8), SupervisedContrastiveLoss(0.3)
    close(sum(loss.parts(*z, LABELS).values()), loss(*z, LABELS))
    collapsed = torch.eye(3, dtype=torch.float64)[torch.tensor([0, 1, 2, 0])]
    alignment = loss.parts(collapsed, 2 * collapsed, torch.tensor([0, 1, 2, 0]))["alignment"]
    close(alignment, torch.zeros_like(alignment), rtol=0, atol=1e-15)


def test_gradcheck() -> None:
    assert gradcheck(lambda z1, z2: SupervisedContrastiveLoss(0.5)(z1, z2, LABELS[:4]), views(4, 2))


@pytest.mark.parametrize("labels", [torch.full((5,), -1), torch.arange(5)])
def test_without_class_mates_it_is_info_nce(labels: Tensor) -> None:
    z = views()
    value, expected = SupervisedContrastiveLoss(0.3)(*z, labels), InfoNCELoss(0.3)(*z)
    close(value, expected, rtol=1e-13, atol=1e-13)
    close(grad(value, z), grad(expected, z), rtol=1e-12, atol=1e-13)


def test_equals_pytorch_metric_learning() -> None:
    reference = pytest.importorskip("pytorch_metric_learning.losses").SupConLoss(temperature=0.2)
    z, labels = views(16, 8, torch.float32), torch.arange(16) % 5
    value, expected = (
        SupervisedContrastiveLoss(0.2)(*z, labels),
        reference(torch.cat(z), labels.repeat(2)),
    )
    close(value, expected, rtol=1e-5, atol=1e-5)
    close(grad(value, z), grad(expected, z), rtol=1e-5, atol=1e-5)


def test_labels_of_eight_bits():
    labels = torch.tensor([0, 1, 0, 255], dtype=torch.uint8)
    z1, z2 = torch.randn(2, 4, 3)
    assert SupervisedContrastiveLoss()(z1, z2, labels) == SupervisedContrastiveLoss()(z1, z2, labels.long())


def test_edges_have_finite_gradients_and_nan_stays() -> None:
    for z in (torch.zeros(4, 3), torch.ones(4, 3), 1e4 * torch.eye(4, 3)):
        leaf = z.requires_grad_()
        value = SupervisedContrastiveLoss(0.005)(leaf, leaf, LABELS[:4])
        assert value.isfinite()
        assert grad(value, leaf)[0].isfinite().all()
    spoilt = torch.eye(4).index_fill(0, torch.tensor([2]), torch.nan)
    assert SupervisedContrastiveLoss()(spoilt, spoilt, LABELS[:4]).isnan()


def test_half_precision_is_computed_in_float32() -> None:
    z = [view.bfloat16() for view in views(8)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = SupervisedContrastiveLoss()(*z, LABELS)
    close(value, SupervisedContrastiveLoss()(*(view.float() for view in z), LABELS), rtol=0, atol=0)


def test_rejects_what_are_no_labels() -> None:
    z, loss = torch.eye(4), SupervisedContrastiveLoss()
    assert loss.takes_labels
    with pytest.raises(ValueError, match=r"Expected `labels` of shape \(4,\), got \(3,\)"):
        loss(z, z, torch.arange(3))
    with pytest.raises(ValueError, match=r"Expected `labels` of an integer dtype, got torch.float32"):
        loss.parts(z, z, torch.arange(4.0))
    with pytest.raises(ValueError, match=r"Expected `labels` of an integer dtype, got torch.bool"):
        loss(z, z, torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"Expected `labels` to be a tensor of class indices, got NoneType"):
        loss(z, z, None)
    with pytest.raises(ValueError, match="Expected `labels` of at least -1, got -3; number classes from 0"):
        loss(z, z, torch.tensor([0, -1, -3, 2]))
    with pytest.raises(ValueError, match="Expected at least 2 samples over all ranks, got 1"):
        loss(z[:1], z[:1], torch.arange(1))
    with pytest.raises(ValueError, match=r"Expected `temperature` > 0, got 0\.0"):
        SupervisedContrastiveLoss(0.0)


def _step(model: Any, pairs: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
    embedded = model(pairs.flatten(0, 1)).unflatten(0, (-1, 2))
    model.zero_grad()
    value = SupervisedContrastiveLoss(0.4)(embedded[:, 0], embedded[:, 1], labels)
    value.backward()
    return value.detach(), [p.grad.clone() for p in model.parameters()]


def _on_rank(rank: int, world_size: int) -> tuple[Tensor, list[Tensor]]:
    inputs, labels = (rows.split(SHARDS[world_size])[rank] for rows in (INPUTS, LABELS))
    return _step(DistributedDataParallel(linear()), inputs, labels)


@pytest.mark.ddp
def test_ranks_give_the_value_and_gradient_of_the_concatenation() -> None:
    value, gradients = _step(linear(), INPUTS, LABELS)
    for found, averaged in run_ranks(_on_rank, 3):
        close(found, value, rtol=1e-11, atol=1e-12)
        close(averaged, gradients, rtol=1e-9, atol=1e-11)
    parts = zip(INPUTS.split(SHARDS[2]), LABELS.split(SHARDS[2]), strict=True)
    alone = [_step(linear(), *part) for part in parts]
    assert abs(sum(a[0] for a in alone) / 2 - value) > 1e-3 * value
    assert (sum(a[1][0] for a in alone) / 2 - gradients[0]).norm() > 1e-3 * gradients[0].norm()
