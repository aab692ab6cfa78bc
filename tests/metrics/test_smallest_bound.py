"""The bound at its best cell: all cells one by one."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import normalize

from lightning_ssl_theory.metrics import generalization_bound, smallest_bound

DELTAS, SIGMAS, EPSILONS = (
    torch.tensor([0.0, 0.02, 0.5]),
    torch.tensor([0.9, 0.95, 1.0]),
    torch.tensor([0.01, 0.05, 1.0]),
)


def population(spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(20) % 2
    noise = torch.randn(20, 3, 2, generator=generator, dtype=torch.float64) * torch.rand(
        20, 1, 1, generator=generator
    )
    return normalize(
        torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double()[labels][:, None] + spread * noise, dim=2
    ), labels


@pytest.mark.parametrize(("spread", "holds"), [(0.01, True), (0.6, False)])
@pytest.mark.parametrize("radius", [1.0, 4.0])
def test_every_cell_in_turn(spread, holds, radius) -> None:
    features, labels = population(spread)
    features = radius * features
    found = smallest_bound(
        features, labels, sigmas=SIGMAS, deltas=DELTAS, epsilons=radius * EPSILONS, lipschitz=0.5
    )
    cells = {
        (t, e): generalization_bound(
            features, labels, sigma=SIGMAS[t], delta=DELTAS[t], epsilon=radius * EPSILONS[e], lipschitz=0.5
        )
        for t, e in itertools.product(range(3), range(3))
    }
    holding = {cell: one for cell, one in cells.items() if one.holds}
    assert bool(holding) == holds == bool(found.holds) != bool(found.vacuous)
    if holds:
        best = min(holding, key=lambda cell: float(cells[cell].bound))
        assert found.bound == pytest.approx(float(cells[best].bound))
    else:
        best = max(cells, key=lambda cell: float(cells[cell].threshold))
        assert found.bound == 1
    assert tuple(found.cell.tolist()) == best
    for name in ("r_epsilon", "rho_max", "threshold", "divergence", "delta_mu", "error"):
        assert getattr(found, name) == pytest.approx(float(getattr(cells[best], name))), name
    shares = [float(cells[0, e].r_epsilon) for e in range(3)]
    assert found.r_epsilons.tolist() == pytest.approx(shares)
    aligned = [share / 0.5 + 2 * float(epsilon) for share, epsilon in zip(shares, EPSILONS, strict=True)]
    assert found.rho_alignment == pytest.approx(min(aligned))
    reach = [
        2 * (1 - s) + s * 0.5 * d / radius for s, d in zip(SIGMAS.tolist(), DELTAS.tolist(), strict=True)
    ]
    assert found.rho_concentration == pytest.approx(min(reach))
    views = features.tolist()
    squares = [math.dist(a, b) ** 2 for sample in views for a, b in itertools.permutations(sample, 2)]
    assert found.alignment == pytest.approx(sum(squares) / len(squares))
    at_most = [min(1, sum(squares) / 2 / len(views) / (radius * float(epsilon)) ** 2) for epsilon in EPSILONS]
    assert found.r_epsilon_bounds.tolist() == pytest.approx(at_most)
    assert any(bound < 1 for bound in at_most)
    assert (found.r_epsilons <= found.r_epsilon_bounds).all()


def test_what_alignment_says_of_badly_aligned_samples_is_tight_and_holds_at_0() -> None:
    far = torch.eye(2).double()  # views sqrt(2) apart
    near = far[:1].expand(2, 2)
    features, labels = torch.stack([far, near, near, far]), torch.tensor([0, 0, 1, 1])
    grid = {"sigmas": torch.ones(1), "deltas": torch.zeros(1), "lipschitz": 1.0}
    found = smallest_bound(features, labels, epsilons=torch.tensor([0.0, 1.4142, 1.4143, 2.0]), **grid)
    assert found.r_epsilons.tolist() == [0.5, 0.5, 0, 0]
    assert found.r_epsilon_bounds.tolist() == pytest.approx([1, 0.5, 0.5, 0.25], rel=1e-3)
    equal = smallest_bound(near[None].expand(2, 2, 2), torch.tensor([0, 1]), epsilons=torch.zeros(1), **grid)
    assert equal.r_epsilons.tolist() == equal.r_epsilon_bounds.tolist() == [0.0]


def test_rejects_grids_that_do_not_fit() -> None:
    features, labels = population(0.1)
    with pytest.raises(ValueError, match="Expected `sigmas` of shape"):
        smallest_bound(features, labels, sigmas=SIGMAS[:2], deltas=DELTAS, epsilons=EPSILONS, lipschitz=1.0)
    with pytest.raises(ValueError, match="Expected `epsilons` of shape"):
        smallest_bound(features, labels, sigmas=SIGMAS, deltas=DELTAS, epsilons=EPSILONS[:0], lipschitz=1.0)
    with pytest.raises(ValueError, match=r"Expected `epsilons` of at least 0, got -1 to -0\.01"):
        smallest_bound(features, labels, sigmas=SIGMAS, deltas=DELTAS, epsilons=-EPSILONS, lipschitz=1.0)
