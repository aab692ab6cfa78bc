import pytest
import torch
from torch import nn

from lightning_ssl_theory import ContrastiveSSL, MomentumContrastSSL, OrthogonalSSL, PredictorSSL
from lightning_ssl_theory.modules.view_pairs import (
    full_size_views,
    mean_parts,
    of_every_view,
    pairs_with_targets,
    unordered_pairs,
)


class Agreement(nn.Module):
    """Share of a class in the product of two views: takes labels."""

    takes_labels = True

    def forward(self, z1, z2, labels):
        return (z1 * z2)[labels == 1].mean()


def test_which_pairs():
    assert unordered_pairs("abc") == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs_with_targets({0: "p", 1: "q", 2: "r"}, {0: "s", 1: "t"}) == [
        ("p", "t"), ("q", "s"), ("r", "s"), ("r", "t"),
    ]  # fmt: skip


def test_full_size_views():
    small, large = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8)
    assert full_size_views([small, large, small, large]) == [1, 3]
    assert full_size_views([small, small]) == [0, 1]
    texts = [{"input_ids": torch.zeros(2, length)} for length in (5, 7)]
    assert full_size_views(texts) == [0, 1]


def test_a_network_that_refuses_views_of_another_size():
    small, large = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    parts = {"backbone": network, "projector": nn.Identity()}
    sentence = r"takes views of the sizes \[\(3, 4, 4\), \(3, 8, 8\)\], found one that refuses \(3, 4, 4\): RuntimeError"
    for module in (
        ContrastiveSSL(**parts, loss=nn.MSELoss()),
        PredictorSSL(**parts, predictor=nn.Identity(), ema=0.9),
        MomentumContrastSSL(**parts, queue_size=2),
    ):
        with pytest.raises(ValueError, match=sentence):
            module.training_step(([large, small, large], torch.zeros(2)), 0)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):  # no matter of sizes that differ
        of_every_view(network, [small, small])
    assert of_every_view(lambda view: view.mean(), [small, large], [1]) == {1: torch.tensor(0.0)}


def test_mean_of_parts_by_hand():
    views = [torch.full((2, 1), value) for value in (1.0, 2.0, 4.0)]
    assert mean_parts(lambda a, b: (a * b).mean(), unordered_pairs(views)) == {"loss": torch.tensor(14 / 3)}
    along = mean_parts(lambda a, b, c: (a * b * c).mean(), unordered_pairs(views), torch.tensor(3.0))
    assert along == {"loss": torch.tensor(14.0)}


@pytest.mark.filterwarnings("ignore:You are trying to")
@pytest.mark.parametrize(
    "module",
    [
        ContrastiveSSL(nn.Linear(4, 3), nn.Identity(), Agreement()),
        OrthogonalSSL(4, 5, 3, loss=Agreement()),
    ],
    ids=["contrastive", "orthogonal"],
)
def test_a_loss_may_take_the_labels(module):
    views, labels = [torch.randn(4, 4), torch.randn(4, 4)], torch.tensor([0, 1, 1, 0])
    z = [module(view) for view in views]
    torch.testing.assert_close(module.training_step((views, labels), 0), (z[0] * z[1])[1:3].mean())
    with pytest.raises(ValueError, match="Expected labels in the batch, found none; pass batches"):
        module.training_step(views, 0)
