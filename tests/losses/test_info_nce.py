"""InfoNCE against the field's reference and against plain torch, and its own options."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import grad
from torch.nn.functional import cross_entropy, normalize

from lightning_ssl_theory.losses import InfoNCELoss

close = torch.testing.assert_close


def pairs() -> tuple[Tensor, Tensor]:
    base = torch.randn(16, 8)
    return (base + torch.randn_like(base)).requires_grad_(), (base + torch.randn_like(base)).requires_grad_()


@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
def test_default_is_nt_xent_of_lightly(temperature: float) -> None:
    reference = pytest.importorskip("lightly.loss").NTXentLoss(temperature=temperature)
    z = pairs()
    value, expected = InfoNCELoss(temperature)(*z), reference(*z)
    close(value, expected, rtol=1e-6, atol=1e-6)
    close(grad(value, z), grad(expected, z), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_one_way_is_a_cross_entropy(temperature: float) -> None:
    z = pairs()
    logits = normalize(z[0]) @ normalize(z[1]).mT / temperature
    value, expected = InfoNCELoss(temperature, symmetric=False)(*z), cross_entropy(logits, torch.arange(16))
    close(value, expected, rtol=1e-6, atol=1e-6)
    close(grad(value, z), grad(expected, z), rtol=1e-6, atol=1e-6)


def test_one_way_squared_is_a_cross_entropy_with_leading_temperature() -> None:
    z = pairs()
    logits = -torch.cdist(z[0], z[1]).square() / 2
    expected = 0.3 * cross_entropy(logits / 0.3, torch.arange(16))
    close(InfoNCELoss(0.3, distance="squared", symmetric=False)(*z), expected, rtol=1e-5, atol=1e-5)


def test_pair_weight_of_one_negative_is_a_sigmoid_on_the_following_sample() -> None:
    r = torch.tensor([[0.0, 0.5, 4.5], [0.5, 0.0, 2.0], [4.5, 2.0, 0.0]], dtype=torch.float64)
    weight = InfoNCELoss(0.5, distance="squared", num_negatives=1).pair_weight(r)
    expected = (
        3 / 2 * torch.sigmoid(-r / 0.5).fill_diagonal_(0.0)
    )  # of three samples each is next to each once
    close(weight, expected)


@pytest.mark.parametrize("num_negatives", [0, 2, 1.5])
def test_rejects_number_of_negatives(num_negatives: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"Expected `num_negatives` None or 1, got {num_negatives}; None takes all"
    ):
        InfoNCELoss(num_negatives=num_negatives)
