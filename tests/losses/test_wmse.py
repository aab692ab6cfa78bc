"""W-MSE against a definition by eigenvectors' kin, its peers, its laws, edges, and several ranks."""

from typing import Any

import pytest
import torch
from helpers.ddp import run_ranks
from torch import Tensor
from torch.autograd import grad, gradcheck
from torch.nn.parallel import DistributedDataParallel

from lightning_ssl_theory.losses import WMSELoss
from losses.test_pairwise import views

close = torch.testing.assert_close
INPUTS = (
    torch.linspace(-2.0, 2.5, 13 * 2 * 4, dtype=torch.float64).mul(7.0).sin().mul(3.0).cos().reshape(13, 2, 4)
)
SHARDS = {2: (5, 8), 3: (4, 0, 9)}


def whitened(rows: Tensor, eps: float = 0.0) -> list[Tensor]:
    """Each feature made orthogonal to the ones before it, by Gram and Schmidt: what a Cholesky factor does.

    With `eps` rows of the identity are added below, which carry its share of the covariance.
    """
    num_samples, width = rows.shape
    centred = [column - sum(column) / num_samples for column in rows.mT]
    below = (eps * (num_samples - 1)) ** 0.5 * torch.eye(width, dtype=rows.dtype)
    columns = [torch.cat([(1 - eps) ** 0.5 * c, b]) for c, b in zip(centred, below, strict=True)]
    basis: list[Tensor] = []
    for column in columns:
        rest = column - sum((q * (q @ column) for q in basis), torch.zeros_like(column))
        basis.append(rest / (rest @ rest) ** 0.5)
    scale = ((num_samples - 1) / (1 - eps)) ** 0.5  # one more of the share of the rows themselves
    return [scale * q[:num_samples] for q in basis]


def loop(z1: Tensor, z2: Tensor, groups: list[list[int]], eps: float = 0.0) -> Tensor:
    distances = []
    for group in groups:
        first, second = (torch.stack(whitened(z[group], eps), 1) for z in (z1, z2))
        for a, b in zip(first, second, strict=True):
            distances.append(sum((a / (a @ a) ** 0.5 - b / (b @ b) ** 0.5) ** 2))
    return sum(distances) / len(distances)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_oracle_by_hand() -> None:
    rows = torch.tensor(
        [[1.0, 1.0], [-1.0, -1.0], [0.0, 3.0], [0.0, -3.0]]
    )  # variances 2/3, 20/3; covariance 2/3
    # the first feature explains itself of the second: rest (0, 0, 3, -3) of variance 6
    first, second = whitened(rows)
    close(first, torch.tensor([1.0, -1.0, 0.0, 0.0]) / (2 / 3) ** 0.5)
    close(second, torch.tensor([0.0, 0.0, 3.0, -3.0]) / 6**0.5)


@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_value_and_gradient_are_those_of_the_loop(eps: float) -> None:
    z = views(8)
    value, expected = WMSELoss(eps=eps)(*z), loop(*z, [list(range(8))], eps)
    close(value, expected, rtol=1e-11, atol=1e-12)
    close(grad(value, z), grad(expected, z), rtol=1e-9, atol=1e-11)


def test_sub_batches_are_of_a_random_division_of_even_sizes() -> None:
    z = views(13)
    order = torch.randperm(13, generator=seeded()).tolist()
    value = WMSELoss(whitening_size=6)(*z, generator=seeded())
    close(value, loop(*z, [order[:7], order[7:]]), rtol=1e-11, atol=1e-12)
    generator, drawn = seeded(), seeded()
    orders = [torch.randperm(13, generator=generator).tolist() for _ in range(2)]
    expected = sum(loop(*z, [order[:7], order[7:]]) for order in orders) / 2
    close(WMSELoss(6, num_iterations=2)(*z, generator=drawn), expected, rtol=1e-11, atol=1e-12)
    assert torch.equal(generator.get_state(), drawn.get_state())
    close(WMSELoss(whitening_size=40)(*z), WMSELoss()(*z), rtol=0, atol=0)


def test_equals_lightly() -> None:
    z = views(24, 4, torch.float32)
    peer = pytest.importorskip("lightly.loss").WMSELoss(4, w_size=8, track_running_stats=False)
    torch.manual_seed(1)
    expected = peer(torch.cat(z))
    torch.manual_seed(1)
    value = WMSELoss(whitening_size=8)(*z)
    close(value, expected, rtol=1e-5, atol=1e-6)
    close(grad(value, z), grad(expected, z), rtol=1e-4, atol=1e-6)


def test_gradcheck_and_laws() -> None:
    z, loss = views(6, 2), WMSELoss()
    assert gradcheck(loss, z)
    mixed = torch.tensor(
        [[2.0, 1.0], [0.0, -3.0]], dtype=torch.float64
    )  # a triangle: the order of Gram and Schmidt
    close(loss(z[0] @ mixed + 5.0, z[1] @ mixed - 7.0), loss(*z), rtol=1e-10, atol=1e-12)
    close(loss(z[1], z[0]), loss(*z))
    parts = loss.parts(*z)
    assert parts == {"alignment": loss(*z), "regularization": 0.0}
    assert loss.parts(z[0], z[0])["alignment"] == 0.0


def test_half_precision_is_computed_in_float32_and_nan_stays() -> None:
    z = [view.bfloat16() for view in views(8)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = WMSELoss()(*z)
    close(value, WMSELoss()(*(view.float() for view in z)), rtol=0, atol=0)
    spoilt = z[0].clone()
    spoilt[1, 2] = torch.nan
    assert WMSELoss()(spoilt, z[1]).isnan()


def test_rejects_what_cannot_be_whitened() -> None:
    z = torch.randn(6, 3)
    with pytest.raises(
        ValueError, match=r"more samples over all ranks in what .* got 6 and 6: their covariance is"
    ):
        WMSELoss()(torch.randn(6, 6), torch.randn(6, 6))
    with pytest.raises(
        ValueError, match=r"got 3 and 3: .* take larger batches or a larger `whitening_size`, a"
    ):
        WMSELoss(whitening_size=3)(z, z)
    constant = torch.cat([z[:, :2], torch.full((6, 1), 0.3)], 1)
    with pytest.raises(
        ValueError, match=r"Expected `z2` to vary .* got 1 constant ones, number 2 .* pass eps=1e-3"
    ):
        WMSELoss()(z, constant)
    twice = torch.cat([z, z @ torch.ones(3, 1)], 1)
    with pytest.raises(
        ValueError, match=r"of which none is a combination of the others, got a covariance that is"
    ):
        WMSELoss()(twice, twice)
    for rows in (torch.randn(6, 6), constant, twice, torch.ones(6, 3)):
        leaf = rows.clone().requires_grad_()
        value = WMSELoss(eps=1e-3)(leaf, rows.flip(0))
        assert value.isfinite()
        assert grad(value, leaf)[0].isfinite().all()
    with pytest.raises(ValueError, match=r"Expected `whitening_size` of at least 2, got 1"):
        WMSELoss(whitening_size=1)
    with pytest.raises(ValueError, match=r"Expected `num_iterations` of at least 1, got 0"):
        WMSELoss(num_iterations=0)
    with pytest.raises(ValueError, match=r"Expected `eps` in \[0, 1\), got 1.0; it is the share"):
        WMSELoss(eps=1.0)
    with pytest.raises(ValueError, match=r"Expected `generator` to be of type Generator, got int"):
        WMSELoss()(z, z, generator=3)


def linear() -> torch.nn.Linear:
    layer = torch.nn.Linear(4, 3, dtype=torch.float64)
    layer.weight.data = torch.eye(3, 4, dtype=torch.float64) + 0.2 * torch.arange(12).reshape(3, 4).sin()
    return layer


def _step(model: Any, pairs: Tensor, loss: WMSELoss, seed: int = 3) -> tuple[Tensor, list[Tensor]]:
    embedded = model(pairs.flatten(0, 1)).unflatten(0, (-1, 2))
    model.zero_grad()
    value = loss(embedded[:, 0], embedded[:, 1], generator=seeded(seed))
    value.backward()
    return value.detach(), [p.grad.clone() for p in model.parameters()]


LOSSES = [WMSELoss(), WMSELoss(whitening_size=5, num_iterations=2), WMSELoss(whitening_size=6, eps=0.1)]


def _on_rank(rank: int, world_size: int) -> list[tuple[Tensor, list[Tensor]]]:
    mine = INPUTS.split(SHARDS[world_size])[rank]  # the first rank's draws count
    return [_step(DistributedDataParallel(linear()), mine, loss, seed=3 + rank) for loss in LOSSES]


@pytest.mark.ddp
def test_ranks_give_the_value_and_gradient_of_the_concatenation() -> None:
    expected = [_step(linear(), INPUTS, loss) for loss in LOSSES]
    for found in run_ranks(_on_rank, 3):
        close(found, expected, rtol=1e-8, atol=1e-10)
    value, gradients = expected[0]
    alone = [_step(linear(), part, LOSSES[0]) for part in INPUTS.split(SHARDS[2])]
    assert abs(sum(a[0] for a in alone) / 2 - value) > 1e-3 * value
    assert (sum(a[1][0] for a in alone) / 2 - gradients[0]).norm() > 1e-3 * gradients[0].norm()
