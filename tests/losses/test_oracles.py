"""The loops of the oracles against cases worked out by hand."""

from math import exp, log

import pytest
import torch

from lightning_ssl_theory.losses import InfoNCELoss, PairwiseLoss, SimpleContrastiveLoss, SoftTripletLoss
from losses.oracles import loss_loop

# Sample 0 has the views 0 and 1, sample 1 twice the view 2.
# So r_+ is 1/2 and 0, and r_- is 2 from the view 0, 1/2 from the view 1.
Z1, Z2 = torch.tensor([[0.0], [2.0]], dtype=torch.float64), torch.tensor([[1.0], [2.0]], dtype=torch.float64)
WAY = log(1 + exp(-1.5)) + log(1 + exp(-0.5))  # anchors 0 and 2
BACK = log(1 + exp(0.0)) + log(1 + exp(-2.0))  # anchors 1 and 2


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (SimpleContrastiveLoss(beta=2.0), 3 * 0.25 - 1.25),
        (SoftTripletLoss(1.0, 0.0), (WAY + BACK) / 4),
        (
            SoftTripletLoss(2.0, 0.5),
            (2 * log(1 + exp(-0.5)) + 2 * log(1 + exp(0.25)) + 2 * log(1 + exp(-0.75)) + 2 * log(2.0)) / 4,
        ),
        (InfoNCELoss(1.0, distance="squared", symmetric=False), WAY / 2),
        (InfoNCELoss(1.0, distance="squared", symmetric=False, num_negatives=1), WAY / 2),
        (InfoNCELoss(1.0, distance="squared", num_negatives=1), (WAY + BACK) / 4),
        (
            InfoNCELoss(1.0, distance="squared"),
            (log(1 + 2 * exp(-1.5)) + log(3.0) + 2 * log(1 + exp(-2.0) + exp(-0.5))) / 4,
        ),
        (
            InfoNCELoss(2.0, distance="squared"),  # the leading temperature
            2 * (log(1 + 2 * exp(-0.75)) + log(3.0) + 2 * log(1 + exp(-1.0) + exp(-0.25))) / 4,
        ),
    ],
)
def test_by_hand(loss: PairwiseLoss, expected: float) -> None:
    assert float(loss_loop(loss, Z1, Z2)) == pytest.approx(expected, rel=1e-14)


def test_the_one_negative_is_the_following_sample() -> None:
    points = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    loss = InfoNCELoss(1.0, distance="squared", num_negatives=1)
    expected = (log(1 + exp(-0.5)) + log(1 + exp(-2.0)) + log(1 + exp(-4.5))) / 3
    assert float(loss_loop(loss, points, points)) == pytest.approx(expected, rel=1e-14)


def test_nt_xent_by_hand() -> None:
    z = torch.tensor(
        [[3.0, 0.0], [0.0, 2.0]], dtype=torch.float64
    )  # cosine 1 to the positive, 0 to two negatives
    assert float(loss_loop(InfoNCELoss(0.5), z, z)) == pytest.approx(log(1 + 2 * exp(-2.0)), rel=1e-14)
