"""The trace losses against loops, their trace form, and two processes with uneven data."""

import pytest
import torch
from helpers.ddp import run_ranks
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from lightning_ssl_theory.losses.trace import TraceLoss
from lightning_ssl_theory.networks.two_layer import TwoLayerNetwork

EXACT = {"rtol": 0.0, "atol": 1e-12}
ROWS = torch.linspace(-1.0, 2.0, 16, dtype=torch.float64).reshape(8, 2).sin() + torch.arange(8.0)[:, None]
SHARDS = {2: (3, 5), 3: (1, 2, 5)}


def draw(*shape: int, num: int = 2) -> list[Tensor]:
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(num)]


def loop(z1: Tensor, z2: Tensor, negatives: Tensor | None, contrastive: bool) -> tuple[Tensor, Tensor]:
    pull, push = [], []
    for i in range(len(z1)):
        negative = z1[(i + 1) % len(z1)] if negatives is None else negatives[i]
        pull.append(sum(-z1[i, k] * z2[i, k] for k in range(z1.shape[1])))
        push.append(sum(z1[i, k] * negative[k] for k in range(z1.shape[1])) if contrastive else 0 * z1[i, 0])
    return sum(pull) / len(pull), sum(push) / len(push)


def test_oracle_by_hand() -> None:
    z1, z2 = (
        torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]),
        torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]),
    )
    assert loop(z1, z2, None, True) == (-2.0, 1.0)
    assert loop(z1, z2, None, False) == (-2.0, 0.0)
    assert loop(z1, z2, z2, True) == (-2.0, 2.0)


@pytest.mark.parametrize("contrastive", [True, False])
@pytest.mark.parametrize("shape", [(2, 1), (5, 3)])
def test_value_parts_and_gradient(shape: tuple[int, int], contrastive: bool) -> None:
    z1, z2 = draw(*shape)
    loss = TraceLoss(contrastive=contrastive)
    alignment, regularization = loop(z1, z2, None, contrastive)
    value, parts = loss(z1, z2), loss.parts(z1, z2)
    assert set(parts) == {"alignment", "regularization"}
    assert_close(parts["alignment"], alignment, **EXACT)
    assert_close(parts["regularization"], regularization, **EXACT)
    assert_close(value, alignment + regularization, **EXACT)
    expected = torch.autograd.grad(alignment + regularization, (z1, z2))
    assert_close(torch.autograd.grad(value, (z1, z2)), expected, **EXACT)
    assert gradcheck(loss, (z1, z2))


def test_given_negatives() -> None:
    z1, z2, negatives = draw(5, 3, num=3)
    loss = TraceLoss()
    assert_close(loss(z1, z2, negatives), sum(loop(z1, z2, negatives, True)), **EXACT)
    assert_close(loss(z1, z2, z1.roll(-1, 0)), loss(z1, z2), **EXACT)
    assert_close(loss(z1[:1], z2[:1], negatives[:1]), sum(loop(z1[:1], z2[:1], negatives[:1], True)), **EXACT)
    assert gradcheck(loss, (z1, z2, negatives))


def test_bilinear_in_the_representations() -> None:
    z1, z2 = draw(5, 3)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    for loss in (TraceLoss(), TraceLoss(contrastive=False)):
        assert_close(loss(3 * z1 @ rotation, 3 * z2 @ rotation), 9 * loss(z1, z2), **EXACT)


@pytest.mark.parametrize("contrastive", [True, False])
def test_linear_network_gives_the_trace_form(contrastive: bool) -> None:
    network, (x, positive) = TwoLayerNetwork(4, 6, 3).double(), draw(7, 4)
    moment = torch.zeros(4, 4, dtype=torch.float64)
    for i in range(7):
        moment += torch.outer((x[(i + 1) % 7] if contrastive else 0) - positive[i], x[i]) / 7
    w1, w2 = network.hidden.weight, network.output.weight.mT
    trace = torch.trace(w2.mT @ w1 @ (moment + moment.mT) / 2 @ w1.mT @ w2)
    value = TraceLoss(contrastive=contrastive)(network(x), network(positive))
    assert_close(value, trace, **EXACT)
    weights = (w1, network.output.weight)
    assert_close(torch.autograd.grad(value, weights), torch.autograd.grad(trace, weights), **EXACT)


@pytest.mark.parametrize("num_samples", [2, 3, 6])
def test_pair_weight_gives_the_loss_of_identical_views(num_samples: int) -> None:
    (z,) = draw(num_samples, 3, num=1)
    weight = TraceLoss().pair_weight(torch.cdist(z, z).square() / 2)
    assert_close(weight, weight.mT, **EXACT)
    assert weight.diagonal().abs().sum() == 0.0
    laplacian = weight.sum(1).diag() - weight
    # Its gradient with the weights held is -2 N^-2 sum_ij Lap_ij K_i f_j, so this is the loss itself.
    assert_close(TraceLoss()(z, z), -torch.trace(z.mT @ laplacian @ z) / num_samples**2, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    z1, z2 = torch.full((1000, 8), 10.0, dtype=dtype), torch.full((1000, 8), 11.0, dtype=dtype)
    value = TraceLoss()(z1, z2)  # the sums, 8e5 and 8.8e5, are beyond float16
    assert value.dtype == torch.float32
    assert value.item() == -80.0


def _on_rank(rank: int, world_size: int, contrastive: bool, is_given: bool) -> tuple[Tensor, Tensor]:
    mine = ROWS.split(SHARDS[world_size])[rank].clone().requires_grad_()
    negatives = mine.exp() if is_given else None
    value = TraceLoss(contrastive=contrastive)(mine, mine.square(), negatives)
    value.backward()
    return value.detach(), mine.grad


@pytest.mark.ddp
@pytest.mark.parametrize(
    ("contrastive", "is_given", "num_ranks"),
    [(True, False, 2), (True, False, 3), (True, True, 2), (False, False, 2)],
)
def test_ranks_give_the_value_and_gradient_of_the_concatenation(
    contrastive: bool, is_given: bool, num_ranks: int
) -> None:
    rows = ROWS.clone().requires_grad_()
    loss = TraceLoss(contrastive=contrastive)
    value = loss(rows, rows.square(), rows.exp() if is_given else None)
    (expected,) = torch.autograd.grad(value, rows)
    results = run_ranks(_on_rank, num_ranks, contrastive, is_given)
    for rank, (found, gradient) in enumerate(results):
        mine = expected.split(SHARDS[num_ranks])[rank]
        assert_close(found, value.detach(), **EXACT)
        # DistributedDataParallel divides by the number of ranks.
        assert_close(gradient / num_ranks, mine, **EXACT)
        shard = ROWS.split(SHARDS[num_ranks])[rank]
        if len(shard) > 1:
            alone = loss(shard, shard.square(), shard.exp() if is_given else None)
            assert not torch.isclose(alone, value.detach(), rtol=1e-2)


def test_rejects_one_sample() -> None:
    z = torch.ones(1, 3)
    with pytest.raises(
        ValueError,
        match="at least 2 samples to take negatives from, got 1; take larger batches, and leave out",
    ):
        TraceLoss()(z, z)
    assert TraceLoss(contrastive=False)(z, z).item() == -3.0


def test_rejects_shapes() -> None:
    z = torch.ones(4, 3)
    with pytest.raises(ValueError, match=r"Expected `z1` of shape \(N, D\), got \(4,\); pass a matrix"):
        TraceLoss()(z[:, 0], z[:, 0])
    with pytest.raises(
        ValueError, match=r"Expected `z2` of shape \(4, 3\), got \(3, 3\); transpose or slice"
    ):
        TraceLoss()(z, z[:3])
    with pytest.raises(ValueError, match=r"Expected `negatives` of shape \(4, 3\), got \(2, 4, 3\)"):
        TraceLoss()(z, z, z.expand(2, 4, 3))


def test_rejects_negatives_without_contrast() -> None:
    z = torch.ones(4, 3)
    with pytest.raises(
        ValueError, match="Expected no `negatives` with contrastive=False, got some; leave them out"
    ):
        TraceLoss(contrastive=False)(z, z, z)


def test_pair_weight_needs_contrast_and_pairs() -> None:
    assert not hasattr(TraceLoss(contrastive=False), "pair_weight")
    with pytest.raises(ValueError, match="Expected at least 2 samples, got 1; without negatives"):
        TraceLoss().pair_weight(torch.zeros(1, 1))
