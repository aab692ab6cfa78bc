"""The soft triplet loss: its limits and its margin."""

import pytest
import torch

from lightning_ssl_theory.losses import SoftTripletLoss

close = torch.testing.assert_close


def test_low_temperature_is_the_hinge() -> None:
    # Samples 0 and 2, identical views: r_- = 2. A margin of 3 is missed by 1, one of 1 is kept.
    z = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    close(SoftTripletLoss(0.005, 3.0)(z, z), z.new_tensor(1.0))
    close(SoftTripletLoss(0.005, 1.0)(z, z), z.new_tensor(0.0))


def test_high_temperature_is_half_the_simple_loss() -> None:
    # tau log(1 + e^{x / tau}) = tau log 2 + x / 2 + O(x^2 / tau)
    z = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    value = SoftTripletLoss(1e6, 0.0)(z, z) - 1e6 * torch.log(z.new_tensor(2.0))
    close(value, z.new_tensor(-1.0), rtol=0, atol=1e-5)


def test_pair_weight_by_hand() -> None:
    weight = SoftTripletLoss(0.5, 1.0).pair_weight(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    close(weight, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))  # N/(N-1) sigmoid(0) = 2 * 1/2


def test_rejects_margin() -> None:
    with pytest.raises(ValueError, match=r"Expected a finite `margin`, got inf; pass 0\.0 for none"):
        SoftTripletLoss(margin=float("inf"))
