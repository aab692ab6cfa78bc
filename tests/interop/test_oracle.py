"""The oracle on a case by hand."""

import torch
from torch import nn

from .oracle import Weight, expected, held, jacobians, weight_of


def test_by_hand():
    """f = w.x: K is x, so that OP is the covariance of the samples' mean views."""
    model = nn.Linear(2, 1, bias=False).double()
    weight = weight_of(nn.ModuleDict({"layer": model}), "layer")
    nn.init.constant_(weight.parameter, 2.0)
    views = torch.tensor([[3.0, 0.0], [1.0, 0.0], [-2.0, 4.0], [-2.0, 4.0]]).double()  # means (2, 0), (-2, 4)
    (found,) = jacobians(model(views), [weight])
    # centred means (2, -2) and (-2, 2): trace 8; along w = (2, 2) nothing varies
    assert expected(found, weight, num_views=2) == (8.0, 0.0)
    weight.parameter.data[0, 1] = 0.0
    assert expected(found, weight, num_views=2) == (8.0, 4.0)


def test_rows_of_a_joint_weight():
    layer = nn.MultiheadAttention(4, 2)
    found = weight_of(nn.ModuleDict({"attention": layer}), "attention.k_proj")
    assert isinstance(found, Weight)
    assert torch.equal(found.parameter[found.rows], layer.in_proj_weight[4:8])


def test_statistics_are_those_of_the_batch():
    torch.manual_seed(0)
    batch = torch.randn(5, 3, 4).double()

    def make():
        return nn.BatchNorm1d(3)

    assert torch.allclose(held(make, lambda model: model(batch))(batch), make().double()(batch))


def test_evaluation_mode_stays():
    def make():
        return nn.BatchNorm1d(3).eval()

    batch = torch.randn(5, 3).double()
    assert torch.equal(held(make, lambda model: model(batch))(batch), make().double()(batch))
