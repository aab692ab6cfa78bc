"""Stop-gradient InfoNCE: a loop over anchors, where its gradient goes, and the same on several ranks."""

import math

import pytest
import torch
from helpers.ddp import run_ranks
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn.parallel import DistributedDataParallel

from lightning_ssl_theory.losses import StopGradientInfoNCELoss

close = torch.testing.assert_close


def loss_loop(z1: Tensor, z2: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    losses = []
    for i in range(len(z1)):
        candidates = [negatives[j].detach() for j in range(len(z1)) if j != i]
        scores = [torch.dot(z1[i], row) / temperature for row in [z2[i].detach(), *candidates]]
        losses.append(-temperature * (scores[0] - torch.logsumexp(torch.stack(scores), 0)))
    return torch.stack(losses).mean()


def features(num_samples: int = 5, num_features: int = 3) -> list[Tensor]:
    base = torch.randn(num_samples, num_features, dtype=torch.float64)
    return [(base + 0.5 * torch.randn_like(base)).requires_grad_() for _ in range(3)]


def test_oracle_by_hand() -> None:
    z, negatives = torch.tensor([[2.0], [1.0]]), torch.tensor([[0.0], [3.0]])
    # anchor 0: 4 against 2 * 3; anchor 1: 1 against 0
    expected = 2 * (math.log(1 + math.exp(1)) + math.log(1 + math.exp(-1 / 2))) / 2
    assert float(loss_loop(z, z, negatives, 2.0)) == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("num_samples", [2, 6])
@pytest.mark.parametrize("has_negatives", [True, False])
def test_value_and_gradient_are_those_of_the_loop(
    temperature: float, num_samples: int, has_negatives: bool
) -> None:
    z1, z2, negatives = features(num_samples)
    loss = StopGradientInfoNCELoss(temperature)
    value = loss(z1, z2, negatives) if has_negatives else loss(z1, z2)
    expected = loss_loop(z1, z2, negatives if has_negatives else z2, temperature)
    close(value, expected, rtol=1e-12, atol=1e-12)
    close(grad(value, z1), grad(expected, z1), rtol=1e-10, atol=1e-12)


def test_no_gradient_but_to_the_anchors() -> None:
    z1, z2, negatives = features()
    StopGradientInfoNCELoss()(z1, z2, negatives).backward()
    assert z1.grad is not None
    assert z2.grad is None
    assert negatives.grad is None


def test_parts_sum_to_the_loss() -> None:
    z = features()
    loss = StopGradientInfoNCELoss(0.7)
    parts = loss.parts(*z)
    assert list(parts) == ["alignment", "regularization"]
    close(sum(parts.values()), loss(*z), rtol=1e-14, atol=1e-14)
    close(parts["alignment"], -(z[0] * z[1]).sum(1).mean())


def test_at_zero_the_gradient_is_minus_the_pull_towards_the_other_view() -> None:
    # With even shares 1/B the gradient at f = 0 to z1_i is (1/B) (mean of all candidates - z2_i).
    z1 = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    _, z2, negatives = features(4)
    (found,) = grad(StopGradientInfoNCELoss()(z1, z2, negatives), z1)
    for i in range(4):
        candidates = [z2[i], *(negatives[j] for j in range(4) if j != i)]
        close(found[i], (sum(candidates) / 4 - z2[i]) / 4)


def test_precision_and_large_similarities() -> None:
    z = [100 * v.detach() for v in features()]
    exact = StopGradientInfoNCELoss()(*z)
    assert exact.isfinite()
    close(StopGradientInfoNCELoss()(*(v.float() for v in z)).double(), exact, rtol=1e-5, atol=1e-3)
    half = StopGradientInfoNCELoss()(*(v.bfloat16() / 100 for v in z))
    assert half.dtype == torch.float32


def rank_loss(rank: int, world_size: int, views: list[Tensor], counts: list[int], is_joined: bool) -> tuple:
    mine = [view.split(counts)[rank] for view in views]
    torch.manual_seed(0)
    network = nn.Linear(3, 4).double()
    model = DistributedDataParallel(network) if is_joined else network
    joint = model(torch.cat(mine))
    loss = StopGradientInfoNCELoss(0.5)(*joint.chunk(3))
    loss.backward()
    return loss.detach(), network.weight.grad


def whole_loss(views: list[Tensor]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    network = nn.Linear(3, 4).double()
    loss = StopGradientInfoNCELoss(0.5)(*(network(view) for view in views))
    loss.backward()
    return loss.detach(), network.weight.grad


@pytest.mark.ddp
@pytest.mark.parametrize("counts", [[4, 2], [1, 4, 1]])
def test_uneven_ranks_equal_one_process(counts: list[int]) -> None:
    views = [torch.randn(6, 3, dtype=torch.float64) for _ in range(3)]
    value, gradient = whole_loss(views)
    for found, found_gradient in run_ranks(rank_loss, len(counts), views, counts, True):
        close(found, value, rtol=1e-12, atol=1e-12)
        close(found_gradient, gradient, rtol=1e-10, atol=1e-12)
    if counts == [4, 2]:
        alone = whole_loss([view[:4] for view in views])
        assert not torch.allclose(alone[0], value, rtol=1e-3)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3,), (3,), (3,)), r"Expected `z1` of shape \(N, D\), got \(3,\)"),
        (((3, 2), (2, 2), (3, 2)), r"Expected `z2` of shape \(3, 2\), got \(2, 2\)"),
        (((3, 2), (3, 2), (3, 1)), r"Expected `negatives` of shape \(3, 2\), got \(3, 1\)"),
        (((1, 2), (1, 2), (1, 2)), "Expected at least 2 samples over all ranks, got 1; without negatives"),
    ],
)
def test_rejected_shapes(shapes: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StopGradientInfoNCELoss()(*(torch.zeros(shape) for shape in shapes))


def test_rejected_temperature() -> None:
    with pytest.raises(ValueError, match="Expected `temperature` > 0, got 0"):
        StopGradientInfoNCELoss(0)
