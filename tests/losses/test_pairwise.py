"""What holds for every pairwise loss: its loop, its laws, its edges, several ranks, and its pair weights."""

from itertools import product
from typing import Any

import pytest
import torch
from helpers.ddp import run_ranks
from torch import Tensor, nn
from torch.autograd import grad, gradcheck
from torch.func import jacrev, vmap
from torch.nn.functional import normalize, relu
from torch.nn.parallel import DistributedDataParallel

from lightning_ssl_theory.losses import InfoNCELoss, PairwiseLoss, SimpleContrastiveLoss, SoftTripletLoss
from losses.oracles import LOSSES, loss_loop

every_loss = pytest.mark.parametrize("loss", LOSSES)
close = torch.testing.assert_close


def views(
    num_samples: int = 5, num_features: int = 3, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    base = torch.randn(num_samples, num_features, dtype=dtype)
    return (
        (base + 0.3 * torch.randn_like(base)).requires_grad_(),
        (base + 0.3 * torch.randn_like(base)).requires_grad_(),
    )


# ------------------------------------------------------------------ value and gradient


@every_loss
@pytest.mark.parametrize("num_samples", [2, 5])
def test_value_and_gradient_are_those_of_the_loop(loss: PairwiseLoss, num_samples: int) -> None:
    z = views(num_samples)
    value, expected = loss(*z), loss_loop(loss, *z)
    close(value, expected, rtol=1e-12, atol=1e-12)
    close(grad(value, z), grad(expected, z), rtol=1e-10, atol=1e-12)


@every_loss
def test_gradcheck(loss: PairwiseLoss) -> None:
    assert gradcheck(loss, views(3, 2))


@every_loss
def test_float32_agrees_with_float64(loss: PairwiseLoss) -> None:
    z = views()
    value = loss(*(v.float() for v in z))
    assert value.dtype == torch.float32
    close(value.double(), loss(*z), rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------ laws


@every_loss
def test_parts_sum_to_the_loss(loss: PairwiseLoss) -> None:
    z = views()
    parts = loss.parts(*z)
    assert list(parts) == ["alignment", "regularization"]
    close(sum(parts.values()), loss(*z), rtol=1e-14, atol=1e-14)
    close(grad(sum(parts.values()), z), grad(loss(*z), z), rtol=1e-12, atol=1e-14)


@every_loss
def test_alignment_vanishes_for_identical_views(loss: PairwiseLoss) -> None:
    z, other = views()
    assert loss.parts(z, z)["alignment"] == 0.0
    weight = loss.beta + (1 / 0.4 if isinstance(loss, InfoNCELoss) and loss.distance == "cosine" else 1.0)
    rows = [normalize(v) for v in (z, other)] if loss.distance == "cosine" else [z, other]
    close(loss.parts(z, other)["alignment"], weight * (rows[0] - rows[1]).square().sum(1).mean() / 2)


@every_loss
def test_invariances(loss: PairwiseLoss) -> None:
    z1, z2 = views()
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    same = [(z1 @ rotation, z2 @ rotation)]
    same += [(z1.roll(2, 0), z2.roll(2, 0))]  # cyclic, so that the following sample stays the following one
    same += [(z2, z1)] if getattr(loss, "symmetric", True) else []
    same += [(3 * z1, 0.1 * z2)] if loss.distance == "cosine" else [(z1 + 7.0, z2 + 7.0)]
    for pair in same:
        close(loss(*pair), loss(z1, z2), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "loss", [SimpleContrastiveLoss(), SoftTripletLoss(1.0, 1.0), InfoNCELoss(1.0, distance="squared")]
)
def test_distances_survive_a_common_offset_in_float32(loss: PairwiseLoss) -> None:
    # Rounding the inputs at 2^10 costs 6e-5 in each; |a|^2 - 2 a.b + |b|^2 would round 2^20, which costs 0.1.
    z = views(dtype=torch.float32)
    close(loss(*(v + 1024.0 for v in z)), loss(*z), rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------ precision


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss: PairwiseLoss, dtype: torch.dtype) -> None:
    z = [v.detach().to(dtype).requires_grad_() for v in views()]
    expected = loss(*(v.float() for v in z))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*z)
        upcast = loss(*(v.float() for v in z))
    assert value.dtype == torch.float32
    close((value, upcast), (expected, expected), rtol=0, atol=0)
    gradients = grad(value, z)
    assert all(g.dtype == dtype for g in gradients)
    close(gradients, grad(expected, z), rtol=0, atol=0)


def cold(loss: PairwiseLoss) -> PairwiseLoss:
    if isinstance(loss, InfoNCELoss):
        return InfoNCELoss(
            0.005,
            distance=loss.distance,
            symmetric=loss.symmetric,
            num_negatives=loss.num_negatives,
            beta=loss.beta,
        )
    return SoftTripletLoss(0.005, 1.0, distance=loss.distance) if isinstance(loss, SoftTripletLoss) else loss


EDGES = {
    "random": torch.linspace(-1.0, 1.0, 24).sin().reshape(2, 4, 3),
    "collapsed": torch.ones(2, 4, 3),
    "zero": torch.zeros(2, 4, 3),
    "one zero row": torch.eye(4, 3).repeat(2, 1, 1),
    "opposite": torch.stack([torch.eye(4, 3), -torch.eye(4, 3)]),
    "large": 1e4 * torch.linspace(-1.0, 1.0, 24).cos().reshape(2, 4, 3),
}


@every_loss
@pytest.mark.parametrize("edge", EDGES)
def test_finite_at_low_temperature_and_at_the_edges(loss: PairwiseLoss, edge: str) -> None:
    z = EDGES[edge].clone().requires_grad_()
    value = cold(loss)(*z)
    (gradient,) = grad(value, z)
    assert value.isfinite()
    assert gradient.isfinite().all()
    if edge != "large":
        assert gradient.abs().max() < 1e3  # 1/temperature = 200 times numbers of order one


@pytest.mark.parametrize(
    "loss", [InfoNCELoss(0.005), InfoNCELoss(0.005, distance="squared"), SoftTripletLoss(0.005)]
)
def test_low_temperature_keeps_its_value_in_float32(loss: PairwiseLoss) -> None:
    # Similarities are right to some 1e-7; divided by the temperature that is 5e-5.
    z = [normalize(v.detach()) for v in views()]
    close(loss(*(v.float() for v in z)).double(), loss(*z), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ rejected inputs


@every_loss
def test_rejects_what_is_no_batch_of_pairs(loss: PairwiseLoss) -> None:
    z = torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"Expected `z1` of shape \(N, D\), got \(3,\); pass a matrix"):
        loss(z[0], z[0])
    with pytest.raises(ValueError, match=r"Expected `z2` of shape \(N, D\), got \(2, 4, 3\); pass a matrix"):
        loss(z, torch.zeros(2, 4, 3))
    with pytest.raises(
        ValueError, match=r"Expected `z1` and `z2` of one shape, got \(4, 3\) and \(2, 3\); pass two"
    ):
        loss.parts(z, z[:2])
    with pytest.raises(
        ValueError, match="Expected at least 2 samples over all ranks, got 1; without negatives there"
    ):
        loss(z[:1], z[:1])
    with pytest.raises(
        ValueError, match="Expected at least 2 samples, got 1; without negatives there is no contrast"
    ):
        loss.pair_weight(torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"Expected `r` of shape \(N, N\), got \(4, 3\)"):
        loss.pair_weight(z)


@pytest.mark.parametrize("kind", [InfoNCELoss, SoftTripletLoss])
@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_rejects_temperature(kind: Any, temperature: float) -> None:
    with pytest.raises(
        ValueError, match=rf"Expected `temperature` > 0, got {temperature}; pass a positive finite"
    ):
        kind(temperature=temperature)


@pytest.mark.parametrize("kind", [SimpleContrastiveLoss, InfoNCELoss, SoftTripletLoss])
def test_rejects_distance_and_beta(kind: Any) -> None:
    with pytest.raises(
        ValueError, match="Expected `distance` to be one of cosine, squared, got 'l2'; choose one"
    ):
        kind(distance="l2")
    with pytest.raises(ValueError, match=r"Expected a finite `beta`, got nan; pass 0\.0"):
        kind(beta=float("nan"))


# ------------------------------------------------------------------ several ranks

LIST = [param.values[0] for param in LOSSES]
INPUTS = torch.linspace(-2.0, 2.5, 8 * 2 * 4, dtype=torch.float64).sin().mul(3.0).cos().reshape(8, 2, 4)
SHARDS = {2: (3, 5), 3: (3, 0, 5)}


def linear(dtype: torch.dtype = torch.float64) -> nn.Linear:
    layer = nn.Linear(4, 3, bias=True, dtype=dtype)
    for parameter in layer.parameters():
        parameter.data = torch.linspace(-0.9, 1.1, parameter.numel(), dtype=dtype).reshape(parameter.shape)
    return layer


def step(model: nn.Module, loss: nn.Module, pairs: Tensor) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    """Value, parts and parameter gradients."""
    embedded = model(pairs.flatten(0, 1)).unflatten(0, (-1, 2))
    model.zero_grad()
    value = loss(embedded[:, 0], embedded[:, 1])
    value.backward()
    with torch.no_grad():
        parts = loss.parts(embedded[:, 0], embedded[:, 1])
    return value.detach(), parts, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def _on_rank(rank: int, world_size: int) -> list[tuple[Any, list[Tensor]]]:
    mine = INPUTS.split(SHARDS[world_size])[rank]
    plain, averaging = linear(), DistributedDataParallel(linear())
    return [(step(plain, loss, mine), step(averaging, loss, mine)[2]) for loss in LIST]


@pytest.mark.ddp
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_give_the_value_and_gradient_of_the_concatenation(world_size: int) -> None:
    results = run_ranks(_on_rank, world_size)
    for k, loss in enumerate(LIST):
        value, parts, gradients = step(linear(), loss, INPUTS)
        for rank_results in results:
            (rank_value, rank_parts, _), averaged = rank_results[k]
            close((rank_value, rank_parts), (value, parts), rtol=1e-11, atol=1e-12)
            close(averaged, gradients, rtol=1e-9, atol=1e-11)
        by_hand = [
            torch.stack(g).mean(0)
            for g in zip(*(rank_results[k][0][2] for rank_results in results), strict=True)
        ]
        close(by_hand, gradients, rtol=1e-9, atol=1e-11)


def test_without_synchronisation_the_ranks_would_give_another_value_and_gradient() -> None:
    for loss in LIST:
        value, _, gradients = step(linear(), loss, INPUTS)
        alone = [step(linear(), loss, part) for part in INPUTS.split(SHARDS[2])]
        assert abs(sum(a[0] for a in alone) / 2 - value) > 1e-3 * abs(value)
        assert (sum(a[2][0] for a in alone) / 2 - gradients[0]).norm() > 1e-3 * gradients[0].norm()


def _one_sample_a_rank(rank: int, world_size: int) -> tuple[list[Tensor], list[str]]:
    mine = INPUTS[rank : rank + 1, :, :3]
    values = [loss(mine[:, 0], mine[:, 1]) for loss in LIST]
    lonely = INPUTS[:1] if rank == 0 else INPUTS[:0]
    sentences = []
    for loss in LIST:
        try:
            loss(lonely[:, 0], lonely[:, 1])
        except ValueError as error:
            sentences.append(str(error))
    return values, sentences


@pytest.mark.ddp
def test_samples_are_counted_over_all_ranks() -> None:
    two = INPUTS[:2, :, :3]
    for values, sentences in run_ranks(_one_sample_a_rank, 2):
        close(values, [loss(two[:, 0], two[:, 1]) for loss in LIST])
        assert len(sentences) == len(LIST)
        assert all("at least 2 samples over all ranks, got 1" in sentence for sentence in sentences)


# ------------------------------------------------------------------ pair weights against the true gradient


class Tiny:
    """A bias-free two-layer ReLU network as a function of its first layer, with its connections."""

    def __init__(self, distance: str) -> None:
        self.weight = torch.randn(5, 4, dtype=torch.float64).mul(0.5).requires_grad_()
        self._second = 0.3 * torch.randn(3, 5, dtype=torch.float64)
        self._is_cosine = distance == "cosine"

    def outputs(self, weight: Tensor, x: Tensor) -> Tensor:
        z = relu(x @ weight.mT) @ self._second.mT
        return z / z.norm(dim=-1, keepdim=True) if self._is_cosine else z

    def connections(self, x: Tensor) -> Tensor:
        """K of every sample, (N, P, n_L)."""
        jacobians = vmap(jacrev(self.outputs), in_dims=(None, 0))(self.weight.detach(), x)
        return jacobians.flatten(2).mT

    def gradient(self, loss: PairwiseLoss, pairs: Tensor) -> Tensor:
        z1, z2 = (self.outputs(self.weight, pairs[:, a]) for a in (0, 1))
        return grad(loss(z1, z2), self.weight)[0].flatten()

    def prediction(self, loss: PairwiseLoss, pairs: Tensor) -> Tensor:
        """-2 N^-2 sum_ij Lap_ij barK_i barf_j, as a loop over pairs."""
        num_samples = len(pairs)
        k = sum(self.connections(pairs[:, a]) for a in (0, 1)) / 2
        f = sum(self.outputs(self.weight, pairs[:, a]) for a in (0, 1)).detach() / 2
        r = torch.stack(
            [torch.stack([(f[i] - f[j]).square().sum() / 2 for j in range(len(f))]) for i in range(len(f))]
        )
        xi = loss.pair_weight(r)
        close(xi, xi.mT, rtol=1e-14, atol=0)
        assert xi.diagonal().eq(0).all()
        total = torch.zeros(self.weight.numel(), dtype=torch.float64)
        for i, j in product(range(num_samples), repeat=2):
            total += xi[i, j] * (k[i] @ (f[i] - f[j]))
        return -2 * total / num_samples**2


@every_loss
@pytest.mark.parametrize("num_samples", [2, 4])
def test_pair_weight_predicts_the_gradient_for_identical_views(loss: PairwiseLoss, num_samples: int) -> None:
    network = Tiny(loss.distance)
    pairs = torch.randn(num_samples, 1, 4, dtype=torch.float64).expand(-1, 2, -1)
    gradient = network.gradient(loss, pairs)
    assert gradient.norm() > 1e-3
    close(network.prediction(loss, pairs), gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [SoftTripletLoss(0.3, 0.4), InfoNCELoss(0.4), InfoNCELoss(0.4, distance="squared", num_negatives=1)],
)
def test_residue_falls_with_the_square_of_the_augmentation_strength(loss: PairwiseLoss) -> None:
    # Over all sign patterns of the displacements the mean is even in each, so that the first order drops out.
    network = Tiny(loss.distance)
    base, displacement = torch.randn(2, 3, 4, dtype=torch.float64)

    def residue(strength: float) -> float:
        total = torch.zeros(20, dtype=torch.float64)
        for signs in product((-1.0, 1.0), repeat=3):
            shift = strength * torch.tensor(signs, dtype=torch.float64)[:, None] * displacement
            pairs = torch.stack([base + shift, base - shift], dim=1)
            total += (network.gradient(loss, pairs) - network.prediction(loss, pairs)) / 8
        return float(total.norm())

    assert residue(2e-3) / residue(1e-3) == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize("beta", [0.0, 0.8])
def test_simple_loss_has_the_gradient_of_the_unbiased_operator_on_every_batch(beta: float) -> None:
    network, num_samples = Tiny("squared"), 4
    pairs = torch.randn(num_samples, 2, 4, dtype=torch.float64)
    k = [network.connections(pairs[:, a]) for a in (0, 1)]
    w = network.weight.detach().flatten()
    same = [k[a][i] @ k[1 - a][i].mT for i in range(num_samples) for a in (0, 1)]
    other = [
        k[a][i] @ k[b][j].mT
        for i, j in product(range(num_samples), repeat=2)
        for a, b in product((0, 1), repeat=2)
        if i != j
    ]
    unbiased = sum(same) / len(same) - sum(other) / len(other)
    centred = [k[a][i] - (k[0][i] + k[1][i]) / 2 for i in range(num_samples) for a in (0, 1)]
    within = sum(c @ c.mT for c in centred) / num_samples
    close(
        network.gradient(SimpleContrastiveLoss(beta=beta), pairs),
        -2 * unbiased @ w + 2 * beta * within @ w,
        rtol=1e-11,
        atol=1e-12,
    )
